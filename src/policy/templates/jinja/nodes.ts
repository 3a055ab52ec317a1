/** The syntax tree of a template. */

/** An expression. */
export type Expression =
  | { readonly type: "constant"; readonly value: unknown }
  | { readonly type: "name"; readonly name: string }
  | { readonly type: "list" | "tuple"; readonly items: readonly Expression[] }
  | { readonly type: "dict"; readonly entries: readonly (readonly [Expression, Expression])[] }
  | { readonly type: "not" | "negative" | "positive"; readonly of: Expression }
  | {
    readonly type: "binary";
    readonly operator: string;
    readonly left: Expression;
    readonly right: Expression;
  }
  | { readonly type: "and" | "or"; readonly left: Expression; readonly right: Expression }
  | { readonly type: "concat"; readonly items: readonly Expression[] }
  | {
    readonly type: "compare";
    readonly first: Expression;
    readonly rest: readonly { readonly operator: string; readonly value: Expression }[];
  }
  | {
    readonly type: "condition";
    readonly test: Expression;
    readonly then: Expression;
    readonly otherwise: Expression | null;
  }
  | { readonly type: "attribute"; readonly of: Expression; readonly name: string }
  | { readonly type: "item"; readonly of: Expression; readonly key: Expression }
  | {
    readonly type: "slice";
    readonly start: Expression | null;
    readonly stop: Expression | null;
    readonly stride: Expression | null;
  }
  | { readonly type: "call"; readonly callee: Expression; readonly given: Given }
  | {
    readonly type: "filter";
    readonly name: string;
    readonly of: Expression | null;
    readonly given: Given;
  }
  | {
    readonly type: "test";
    readonly name: string;
    readonly of: Expression;
    readonly given: Given;
  };

/** Arguments as they are written. */
export interface Given {
  /** By position. */
  readonly args: readonly Expression[];
  /** By name. */
  readonly named: readonly (readonly [string, Expression])[];
  /** `*args`. */
  readonly star: Expression | null;
  /** `**kwargs`. */
  readonly doubleStar: Expression | null;
}

/** What a value is assigned to. */
export type Target =
  | { readonly type: "name"; readonly name: string }
  | { readonly type: "tuple"; readonly items: readonly Target[] }
  | { readonly type: "attribute"; readonly namespace: string; readonly name: string };

/** A parameter of a macro. */
export interface Parameter {
  /** Its name. */
  readonly name: string;
  /** Its default. */
  readonly default: Expression | null;
}

/** A statement. */
export type Statement =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "output"; readonly value: Expression }
  | { readonly type: "set"; readonly target: Target; readonly value: Expression }
  | {
    readonly type: "capture";
    readonly target: Target;
    readonly filter: Expression | null;
    readonly body: Body;
  }
  | {
    readonly type: "if";
    readonly test: Expression;
    readonly body: Body;
    readonly otherwise: Body;
  }
  | {
    readonly type: "for";
    readonly target: Target;
    readonly of: Expression;
    readonly test: Expression | null;
    readonly isRecursive: boolean;
    readonly body: Body;
    readonly otherwise: Body;
  }
  | { readonly type: "break" | "continue" }
  | { readonly type: "macro"; readonly name: string; readonly macro: Macro }
  | { readonly type: "callBlock"; readonly call: Expression; readonly macro: Macro }
  | { readonly type: "filterBlock"; readonly filter: Expression; readonly body: Body }
  | {
    readonly type: "with";
    readonly sets: readonly (readonly [Target, Expression])[];
    readonly body: Body;
  }
  | { readonly type: "scope"; readonly body: Body }
  | { readonly type: "generation"; readonly body: Body };

/** Statements one after the other. */
export type Body = readonly Statement[];

/** A macro, or the body of a call block. */
export interface Macro {
  /** Its name; `caller` for the body of a call block. */
  readonly name: string;
  /** Its parameters. */
  readonly parameters: readonly Parameter[];
  /** What it renders. */
  readonly body: Body;
}
