/**
 * Where the numbers of a run go: TensorBoard event files and JSON lines.
 *
 * @module
 */
export { jsonLinesSink } from "./json_lines.ts";
export { joinSinks, type ScalarSink } from "./scalar_sink.ts";
export { tensorBoardSink } from "./tensor_board.ts";
