/** Counters of one region's service since it started; read by whoever shows them. */
export class Statistics {
  /** Accepted ever, and open now. */
  connections = 0;
  connectionsOpen = 0;
  /** Promotions, and how many of them took the region from another upstairs. */
  promotions = 0;
  takeovers = 0;
  /** Jobs answered with success, by kind. */
  reads = 0;
  writes = 0;
  flushes = 0;
  otherJobs = 0;
  bytesRead = 0;
  bytesWritten = 0;
  /** Attempts that failed and were reported. */
  failures = 0;
  /** Connections ended for what the peer sent or did not send. */
  faults = 0;
}
