-- Has wrk print what a round brought as one line of JSON, the last of its output.
done = function(summary, latency, requests)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format(
      '\n{"messages": %d, "seconds": %.6f, "failed": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d}\n',
      summary.requests, summary.duration / 1e6, failed,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
