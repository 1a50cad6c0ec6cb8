"""How far a run is, and how long the rest will take."""
import sys
import time

OVERHEAD_S = 0.9  # of a sample, as long as none was seen: starting and ending the programs


class Progress:
    def __init__(self, plan, seconds, output=sys.stderr, clock=time.monotonic):
        """plan: {row id: samples}."""
        self.left = dict(plan)
        self.guess = seconds + OVERHEAD_S
        self.seen = {}  # row id: the durations so far
        self.output, self.clock = output, clock
        self.start = self.last = clock()

    def remaining_s(self):
        """A row that has begun is its own measure; one that has not is like those before it."""
        all_seen = [duration for durations in self.seen.values() for duration in durations]
        usual = sum(all_seen) / len(all_seen) if all_seen else self.guess
        total = 0
        for row_id, count in self.left.items():
            own = self.seen.get(row_id)
            total += count * (sum(own) / len(own) if own else usual)
        return total

    def done(self, row_id, text):
        """A sample of the row has been taken."""
        now = self.clock()
        self.seen.setdefault(row_id, []).append(now - self.last)
        self.left[row_id] -= 1
        self.last = now
        print(f"[{now - self.start:4.0f} s, about {self.remaining_s() / 60:4.1f} min left] {text}", file=self.output,
              flush=True)

    def skip(self, row_id):
        self.left[row_id] = 0
