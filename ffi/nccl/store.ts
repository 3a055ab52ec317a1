/** What the group needs of the store over which its ranks meet; a `TCPStoreServer` has it. */
export interface RendezvousStore {
  /** Address that is listened on. */
  readonly hostname: string;
  /** Port that clients connect to. */
  readonly port: number;
  /** What has been heard, for error messages. */
  readonly peersSeen: {
    /** Clients that are connected now. */
    readonly connected: number;
    /** The last request. */
    readonly lastOp: string | undefined;
  };
  /** Stores a value under a key as it goes over the wire, for so many reads of clients. */
  set(key: string, value: Uint8Array, options: { readonly reads: number }): void;
  /** Removes a key. */
  delete(key: string): boolean;
  /** Calls the handler when a client wants a key that is not there. */
  onMissing(handler: (key: string) => Uint8Array | undefined): void;
}

/**
 * The key under which PyTorch's ranks look for the id of the group's communicator number `counter`
 * (`ProcessGroupNCCL::broadcastUniqueNCCLID`, behind the `PrefixStore` of SGLang's
 * `init_custom_process_group` and the store's own `/`).
 */
export function uniqueIdKey(groupName: string, counter: number): string {
  return `/${groupName}/${groupName}//cuda//${counter}`;
}

/** The number of the communicator whose id is asked for under `key`, if one of the group's is. */
export function uniqueIdCounter(key: string, groupName: string): number | undefined {
  const prefix = uniqueIdKey(groupName, 0).slice(0, -1);
  const counter = key.startsWith(prefix) ? key.slice(prefix.length) : "";
  return /^\d+$/.test(counter) ? Number(counter) : undefined;
}

/** How many ranks have come to the store, and their last request. */
export function describePeers({ peersSeen }: RendezvousStore, worldSize: number): string {
  const { connected, lastOp } = peersSeen;
  const last = lastOp === undefined ? "nothing" : `"${lastOp}"`;
  return `${1 + connected} of ${worldSize} ranks are at the store, whose last request was ${last}`;
}
