"""What HdrHistogram_py reads in an interval log: its intervals, and percentiles of all together."""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

HOUR_US = 3_600_000_000


def like_ours():
    return HdrHistogram(1, HOUR_US, 2)


reader = HistogramLogReader(sys.argv[1], like_ours())
together = like_ours()
intervals = []
while (interval := reader.get_next_interval_histogram()) is not None:
    intervals.append(
        {
            "start_ms": interval.get_start_time_stamp(),
            "end_ms": interval.get_end_time_stamp(),
            "count": interval.get_total_count(),
            "max": interval.get_max_value(),
        }
    )
    together.add(interval)
print(
    json.dumps(
        {
            "start_s": reader.get_start_time_sec(),
            "intervals": intervals,
            "count": together.get_total_count(),
            "percentiles": {
                str(percentile): together.get_value_at_percentile(percentile)
                for percentile in (50, 90, 99, 99.9, 100)
            },
        }
    )
)
