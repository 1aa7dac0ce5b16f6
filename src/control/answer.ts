/** What a route table answers; the host's HTTP server sends it. */
export type Answer =
  | {
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly text: string;
    }
  /** The whole of a regular file, as application/octet-stream. */
  | { readonly file: string };

export interface Request {
  readonly method: string;
  /** As it stands in the request line: path and query, still escaped. */
  readonly target: string;
}
