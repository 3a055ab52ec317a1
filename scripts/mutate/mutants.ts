/** Small changes of a source, one at a time: each should make a test fail. */
import ts from "typescript";

/** A change of one place of a source. */
export interface Mutant {
  /** What is changed into what, with the line's text: stays the same when lines move. */
  readonly name: string;
  /** Line, from 1. */
  readonly line: number;
  /** The whole source after the change. */
  readonly text: string;
}

const SWAPPED: Readonly<Record<string, string>> = {
  "===": "!==",
  "!==": "===",
  "<": "<=",
  "<=": "<",
  ">": ">=",
  ">=": ">",
  "&&": "||",
  "||": "&&",
  "+": "-",
  "-": "+",
  "*": "/",
};

/** All mutants of a source: operators, literals, conditions and calls whose result nobody takes. */
export function mutantsOf(source: string): Mutant[] {
  const file = ts.createSourceFile("source.ts", source, ts.ScriptTarget.Latest, true);
  const found: Mutant[] = [];
  const add = (node: ts.Node, replacement: string) => {
    const [start, end] = [node.getStart(file), node.getEnd()];
    const line = file.getLineAndCharacterOfPosition(start).line;
    const whole = source.split("\n")[line]!.trim();
    found.push({
      name: `${whole}  [${short(source.slice(start, end))} -> ${short(replacement)}]`,
      line: line + 1,
      text: source.slice(0, start) + replacement + source.slice(end),
    });
  };
  const visit = (node: ts.Node): void => {
    // Types, imports and what an error says are not behaviour that tests should pin down.
    if (ts.isTypeNode(node) || ts.isImportDeclaration(node) || isInMessage(node)) return;
    if (ts.isBinaryExpression(node) && !isText(node.left) && !isText(node.right)) {
      const other = SWAPPED[node.operatorToken.getText(file)];
      if (other !== undefined) add(node.operatorToken, other);
    }
    if (node.kind === ts.SyntaxKind.TrueKeyword) add(node, "false");
    if (node.kind === ts.SyntaxKind.FalseKeyword) add(node, "true");
    if (ts.isNumericLiteral(node)) add(node, `(${node.getText(file)} + 1)`);
    if (ts.isIfStatement(node)) add(node.expression, `!(${node.expression.getText(file)})`);
    if (ts.isConditionalExpression(node)) add(node.condition, `!(${node.condition.getText(file)})`);
    if (ts.isExpressionStatement(node) && isCall(node.expression) && !isLog(node, file)) {
      add(node, ";");
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

function isCall(node: ts.Node): boolean {
  return ts.isCallExpression(ts.isAwaitExpression(node) ? node.expression : node);
}

function isLog(node: ts.Node, file: ts.SourceFile): boolean {
  return /\b(logger|super)\b/.test(node.getText(file).split("(")[0]!);
}

function isText(node: ts.Node): boolean {
  return ts.isStringLiteralLike(node) || ts.isTemplateExpression(node) ||
    (ts.isBinaryExpression(node) && (isText(node.left) || isText(node.right)));
}

function isInMessage(node: ts.Node): boolean {
  return ts.isThrowStatement(node) ||
    (ts.isNewExpression(node) && /Error$/.test(node.expression.getText()));
}

function short(text: string): string {
  const line = text.replaceAll(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 57)}...` : line;
}
