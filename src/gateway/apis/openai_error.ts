import type { GatewayRefusal } from "../fault.ts";

/** A refusal as the OpenAI API writes it. */
export function openAIError({ message, status, reason, param }: GatewayRefusal): unknown {
  return { error: { message, type: errorTypeOf(status, "server_error"), param, code: reason } };
}

/** The word that OpenAI and Anthropic share for a status; of one from 500 on it is `ofServer`. */
export function errorTypeOf(status: number, ofServer: string): string {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
    case 410:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    default:
      return status < 500 ? "invalid_request_error" : ofServer;
  }
}
