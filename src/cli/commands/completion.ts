import { Argument, type Command } from "commander";
import type { CommandContext } from "../program.ts";

const examples = `
Examples:
  source <(sglang-rl completion bash)
  sglang-rl completion bash > ~/.local/share/bash-completion/completions/sglang-rl
  sglang-rl completion zsh > "\${fpath[1]}/_sglang-rl"`;

/** Adds `completion`. */
export function addCompletion(program: Command, { io }: CommandContext): void {
  program.command("completion")
    .description("Print a script with which the shell completes commands and options.")
    .addArgument(new Argument("<shell>", "which shell").choices(["bash", "zsh"]))
    .addHelpText("after", examples)
    .action((shell: string) => io.out(completionScript(program, shell as "bash" | "zsh")));
}

/** The script; both shells use bash's way, as zsh knows it too. */
function completionScript(program: Command, shell: "bash" | "zsh"): string {
  const words = program.commands.map((command) => {
    const options = [...command.options, ...program.options, { long: "--help", short: "-h" }];
    const flags = options.flatMap(({ short, long }) => [short, long])
      .filter((flag) => flag !== undefined && flag !== null);
    const choices = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
    return [command.name(), [...new Set([...flags, ...choices])].join(" ")] as const;
  });
  const valued = program.commands.flatMap((command) =>
    command.options.flatMap(({ long, argChoices }) =>
      argChoices === undefined ? [] : [[`${command.name()} ${long}`, argChoices.join(" ")] as const]
    )
  );
  const names = words.map(([name]) => name).join(" ");
  const cases = (pairs: readonly (readonly [string, string])[]) =>
    pairs.map(([pattern, list]) => `    "${pattern}") words="${list}" ;;\n`).join("");
  const body = `_sglang_rl() {
  local current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${names} --help --version" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]} $before" in
${cases(valued)}  esac
  if [ -z "$words" ]; then
    case "\${COMP_WORDS[1]}" in
${cases(words)}    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  # What is no option is a file or a folder.
  [[ "$current" == -* ]] || COMPREPLY+=($(compgen -f -- "$current"))
}
complete -o filenames -F _sglang_rl sglang-rl
`;
  if (shell === "bash") return body;
  return `#compdef sglang-rl\nautoload -U +X bashcompinit && bashcompinit\n${body}`;
}
