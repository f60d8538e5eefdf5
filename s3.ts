/**
 * A host that keeps its data in S3.
 *
 * @module
 */

import { MemStore, type MemStoreOptions } from "./server.ts";
import type { S3Options } from "./state/s3.ts";

export type { S3Options };

/** Where in S3 a host keeps its data, and how S3 is reached. */
export interface S3MemStoreOptions extends Omit<MemStoreOptions, "state" | "s3">, S3Options {
  /** The bucket, which must be there. */
  bucket: string;
  /** The key of the object. */
  key: string;
}

/**
 * A {@linkcode MemStore} whose state is an object in S3: loaded at the start if it is there, stored at the
 * stop, and every `storeEvery` milliseconds if it was changed. (`s3store` and `s3restore` reach any other
 * object, with the same credentials.)
 *
 * @example
 * ```ts ignore
 * import { S3MemStore } from "@memstore/memstore";
 *
 * await using store = new S3MemStore("memstore", {
 *   bucket: "states",
 *   key: "jobs.msgpack",
 *   endpoint: "http://127.0.0.1:9000", // MinIO, say; left out: Amazon's
 *   storeEvery: 60_000,
 * });
 * await store.start();
 * ```
 */
export class S3MemStore extends MemStore {
  /**
   * Makes a host, which serves once it is started.
   *
   * @param endpoints A name, a path or a ZeroMQ address, or several.
   * @param options Where in S3 the state is, how S3 is reached, and how else the host keeps its data.
   */
  constructor(
    endpoints: string | readonly string[],
    {
      bucket,
      key,
      endpoint,
      region,
      forcePathStyle,
      profile,
      accessKeyId,
      secretAccessKey,
      sessionToken,
      ...rest
    }: S3MemStoreOptions,
  ) {
    super(endpoints, {
      ...rest,
      state: `s3://${bucket}/${key}`,
      s3: { endpoint, region, forcePathStyle, profile, accessKeyId, secretAccessKey, sessionToken },
    });
  }
}
