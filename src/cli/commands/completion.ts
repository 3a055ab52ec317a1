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

/** What can stand where, as both scripts need it. */
interface Words {
  /** Names of all commands, and what each does. */
  readonly commands: readonly (readonly [name: string, description: string])[];
  /** Options and choices of each command. */
  readonly ofCommand: readonly (readonly [command: string, words: string])[];
  /** Values of the options that have a list of them. */
  readonly ofOption: readonly (readonly [commandAndOption: string, words: string])[];
}

function wordsOf(program: Command): Words {
  const { commands } = program;
  const names = commands.map((command) => command.name());
  return {
    commands: [
      ...commands.map((command) => [command.name(), command.description()] as const),
      ["help", "Show the help of a command."],
    ],
    ofCommand: commands.map((command) => {
      const options = [...command.options, ...program.options, { long: "--help", short: "-h" }];
      const flags = options.flatMap(({ short, long }) => [short, long])
        .filter((flag) => flag !== undefined && flag !== null);
      const choices = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
      return [command.name(), [...new Set([...flags, ...choices])].join(" ")];
    }),
    ofOption: [
      // Files are no commands, so what follows is a list as after such an option.
      ["help help", names.join(" ")] as const,
      ...commands.flatMap((command) =>
        command.options.flatMap(({ short, long, argChoices }) =>
          argChoices === undefined ? [] : [short, long].filter((flag) => typeof flag === "string")
            .map((flag) => [`${command.name()} ${flag}`, argChoices.join(" ")] as const)
        )
      ),
    ],
  };
}

function completionScript(program: Command, shell: "bash" | "zsh"): string {
  const words = wordsOf(program);
  return shell === "bash" ? bashScript(words) : zshScript(words);
}

function bashScript({ commands, ofCommand, ofOption }: Words): string {
  const cases = (pairs: readonly (readonly [string, string])[]) =>
    pairs.map(([pattern, list]) => `    "${pattern}") words="${list}" ;;\n`).join("");
  return `_sglang_rl() {
  local current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="${commands.map(([name]) => name).join(" ")} --help --version"
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]} $before" in
${cases(ofOption)}  esac
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases(ofCommand)}  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  # What is no option may be a file or a folder.
  [[ "$current" == -* ]] || COMPREPLY+=($(compgen -f -- "$current"))
}
complete -o filenames -F _sglang_rl sglang-rl
`;
}

/** It works both sourced and as a file of `fpath`, which zsh runs when it completes the first time. */
function zshScript({ commands, ofCommand, ofOption }: Words): string {
  const cases = (pairs: readonly (readonly [string, string])[]) =>
    pairs.map(([pattern, list]) => `    "${pattern}") list=(${list}) ;;\n`).join("");
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const described = commands.map(([name, text]) => `      ${quoted(`${name}:${text}`)}\n`).join("");
  return `#compdef sglang-rl
_sglang_rl() {
  local -a list
  if (( CURRENT == 2 )); then
    list=(
${described}      '--help:show the help'
      '--version:print the version'
    )
    _describe command list
    return
  fi
  case "\${words[2]} \${words[CURRENT-1]}" in
${cases(ofOption)}  esac
  if (( \${#list} )); then
    compadd -a list
    return
  fi
  case "\${words[2]}" in
${cases(ofCommand)}  esac
  if [[ "$PREFIX" == -* ]]; then
    compadd -a list
    return
  fi
  # What is no option may be a choice of the command, a file or a folder.
  list=(\${list:#-*})
  (( \${#list} )) && compadd -a list
  _files
}
if [[ "\${funcstack[1]}" == _sglang-rl ]]; then
  _sglang_rl "$@"
else
  compdef _sglang_rl sglang-rl
fi
`;
}
