/** Checks that what a webhook brought was sent by the server that knows the secret. Needs Web Crypto: browsers, Node 20, workers. */
/** The request was not signed with this secret, or too long ago. Answer it with 401. */
export declare class InvalidSignature extends Error {
    name: string;
}
export type SignatureFormat = "map" | "standard" | "gateway" | "feed";
export interface VerifyOptions {
    /** The raw body: what arrived, before anything parsed it. */
    body: Uint8Array<ArrayBuffer> | string;
    headers: Headers | Record<string, string | string[] | undefined>;
    secret: string;
    /** Left out, the headers tell; those with a time in the signature are preferred. */
    format?: SignatureFormat;
    /** How far the time of a signature may be from now: 300. */
    toleranceS?: number;
    /** Unix seconds. */
    nowS?: number;
}
/** Gives the body as text when it is genuine. `gateway` and `feed` have no time in their signature, so they cannot tell a repetition.
 * @throws {InvalidSignature} */
export declare function verifyWebhook(options: VerifyOptions): Promise<string>;
