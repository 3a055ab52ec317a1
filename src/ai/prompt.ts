import {
  type LanguageModelV4CallOptions,
  type LanguageModelV4FunctionTool,
  type LanguageModelV4Message,
  type LanguageModelV4ToolResultPart,
  type SharedV4Warning,
  UnsupportedFunctionalityError,
} from "@ai-sdk/provider";

type Json = Readonly<Record<string, unknown>>;

/** A call as the body of a chat request, and what of it has no effect. */
export function bodyOf(
  model: string,
  options: LanguageModelV4CallOptions,
): { readonly body: Json; readonly warnings: readonly SharedV4Warning[] } {
  const { responseFormat, tools = [], toolChoice, reasoning } = options;
  const warnings: SharedV4Warning[] = [];
  const functions = tools.filter((tool): tool is LanguageModelV4FunctionTool => {
    if (tool.type === "function") return true;
    warnings.push({ type: "unsupported", feature: `provider tool ${tool.id}` });
    return false;
  });
  if (reasoning !== undefined && reasoning !== "provider-default") {
    warnings.push({ type: "unsupported", feature: "reasoning" });
  }
  const body = {
    model,
    messages: options.prompt.flatMap(messagesOf),
    max_tokens: options.maxOutputTokens,
    temperature: options.temperature,
    top_p: options.topP,
    top_k: options.topK,
    presence_penalty: options.presencePenalty,
    frequency_penalty: options.frequencyPenalty,
    stop: options.stopSequences,
    seed: options.seed,
    response_format: formatOf(responseFormat),
    tools: functions.length === 0 ? undefined : functions.map(toolOf),
    tool_choice: functions.length === 0 ? undefined : choiceOf(toolChoice),
    // Further fields of the gateway, for example `chat_template_kwargs`.
    ...options.providerOptions?.["sglang-rl"],
  };
  return { body, warnings };
}

function messagesOf(message: LanguageModelV4Message): Json[] {
  switch (message.role) {
    case "system":
      return [{ role: "system", content: message.content }];
    case "user":
      return [{
        role: "user",
        content: message.content.map((part) => {
          if (part.type === "text") return part.text;
          throw new UnsupportedFunctionalityError({ functionality: "files in a prompt" });
        }).join(""),
      }];
    case "assistant":
      return [assistantOf(message.content)];
    case "tool":
      return message.content.flatMap((part) =>
        part.type === "tool-result"
          ? [{ role: "tool", tool_call_id: part.toolCallId, content: resultOf(part) }]
          : []
      );
  }
}

type AssistantContent = Extract<LanguageModelV4Message, { role: "assistant" }>["content"];

function assistantOf(content: AssistantContent): Json {
  const text: string[] = [];
  const reasoning: string[] = [];
  const calls: Json[] = [];
  for (const part of content) {
    if (part.type === "text") text.push(part.text);
    else if (part.type === "reasoning") reasoning.push(part.text);
    else if (part.type === "tool-call") {
      calls.push({
        id: part.toolCallId,
        type: "function",
        function: { name: part.toolName, arguments: JSON.stringify(part.input) },
      });
    } else throw new UnsupportedFunctionalityError({ functionality: `${part.type} in a prompt` });
  }
  return {
    role: "assistant",
    content: text.join(""),
    ...(reasoning.length === 0 ? {} : { reasoning_content: reasoning.join("") }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

function resultOf({ output }: LanguageModelV4ToolResultPart): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "json":
    case "error-json":
      return JSON.stringify(output.value);
    case "execution-denied":
      return output.reason ?? "The call was denied";
    case "content":
      return output.value.map((part) => {
        if (part.type === "text") return part.text;
        throw new UnsupportedFunctionalityError({ functionality: "files in a tool's result" });
      }).join("");
  }
}

function toolOf({ name, description, inputSchema }: LanguageModelV4FunctionTool): Json {
  return {
    type: "function",
    function: {
      name,
      ...(description === undefined ? {} : { description }),
      parameters: inputSchema,
    },
  };
}

function choiceOf(choice: LanguageModelV4CallOptions["toolChoice"]): unknown {
  if (choice === undefined) return undefined;
  if (choice.type !== "tool") return choice.type;
  return { type: "function", function: { name: choice.toolName } };
}

function formatOf(format: LanguageModelV4CallOptions["responseFormat"]): unknown {
  if (format?.type !== "json") return undefined;
  const { schema, name = "answer" } = format;
  if (schema === undefined) return { type: "json_object" };
  return { type: "json_schema", json_schema: { name, schema } };
}
