/** What a backend can do, as data: `doctor` prints it, the daemon asks it instead of asking which backend it is. */
export interface Capabilities {
  /** Tells callers apart, so that installers need no wrapper. */
  callerIdentity: boolean;
  /** A commit drops what the kernel has cached, so cached names and pages need no expiry. */
  kernelNotifications: boolean;
  /** Requests on committed views never enter JavaScript. */
  outsideJavaScript: boolean;
  /** The connection outlives a server that was killed. */
  survivesServer: boolean;
}

export const NATIVE_CAPABILITIES: Capabilities = {
  callerIdentity: true,
  kernelNotifications: true,
  outsideJavaScript: true,
  survivesServer: true,
};
