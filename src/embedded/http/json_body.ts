import { formError } from "./api_error.ts";

/** The JSON body of a request; throws the real server's answer where there is none. */
export async function jsonBody(request: Request): Promise<unknown> {
  const text = await request.text();
  if (text === "") {
    throw formError(
      "{'type': 'missing', 'loc': ('body',), 'msg': 'Field required', 'input': None}",
    );
  }
  try {
    return JSON.parse(text);
  } catch {
    throw formError(
      "{'type': 'json_invalid', 'loc': ('body', 0), 'msg': 'JSON decode error', 'input': {}}",
    );
  }
}
