/**
 * HTTP/1.1 to one server, with limits on everything that a peer sends.
 *
 * @module
 */
export { type Address, parseAddress } from "./address.ts";
export { type HttpAnswer, HttpPool, type HttpPoolOptions, type HttpRequest } from "./pool.ts";
export { checkHeaders } from "./message.ts";
export { HEAD_LIMITS, type HeadLimits } from "./read_head.ts";
