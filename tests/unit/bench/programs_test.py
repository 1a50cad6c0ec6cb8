#!/usr/bin/python3
"""bench/programs without its programs: what tools print, medians and ranges, verdicts, table and picture."""
import io
import os
import sys
import unittest
import xml.etree.ElementTree as xml

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "bench", "programs.d"))
import outputs
import picture
import rows
import samples
import text
from progress import Progress
from rows import OTHER, OURS, TCP, UNIX, Row, at_least
from stage import Failed, Stage, Workshop


def lines_of(name):
    """The output of a tool, as a file beside."""
    with open(os.path.join(HERE, "outputs", name), encoding="utf-8") as file:
        return file.read()


class Outputs(unittest.TestCase):
    def test_every_tool(self):
        for expected, found in (
                (14925.37, outputs.redis_benchmark(lines_of("redis-benchmark"), "GET")),
                (20000 / 0.872, outputs.memcslap(lines_of("memcslap-get"))),
                (40000 / 2.385, outputs.memcslap(lines_of("memcslap-set"))),
                (2676.07, outputs.wrk(lines_of("wrk"))),
                (4470.123456, outputs.pgbench(lines_of("pgbench"))),
                (812.345, outputs.psql_milliseconds("Timing is on.\nTime: 1.5 ms\nCOPY 400000\nTime: 812.345 ms\n")),
                (812.345, outputs.psql_milliseconds("Time: 812.345 ms (00:00.812)\n")),
                (4638.62, outputs.sysbench(lines_of("sysbench"))),
                (1875432.0, outputs.curl_bytes_per_second("200 67108864 1875432\n")),
                (31.5e9, outputs.iperf3('{"end": {"sum_received": {"bits_per_second": 31.5e9}}}')),
                (11.856, outputs.sockperf_latency(lines_of("sockperf-ping-pong"))),
                (250761, outputs.sockperf_throughput(lines_of("sockperf-throughput"))),
                (12345.6, outputs.own_figure("a warning\nfigure 12345.6\n")),
                (1.5e7, outputs.own_figure("figure 1.5e+07\n"))):
            self.assertAlmostEqual(expected, found)

    def test_no_figure_and_failed_operations(self):
        for wrong in (
                lambda: outputs.redis_benchmark(lines_of("redis-benchmark"), "SET"),
                lambda: outputs.memcslap("Time to get 20000 keys by 20 threads: 0.000 seconds."),
                lambda: outputs.wrk(lines_of("wrk").replace("Requests/sec", "  Non-2xx or 3xx responses: 4\nRequests/sec")),
                lambda: outputs.wrk("  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec: 5\n"),
                lambda: outputs.pgbench(lines_of("pgbench").replace("transactions: 0 (", "transactions: 3 (")),
                lambda: outputs.psql_milliseconds("ERROR: no such table"),
                lambda: outputs.sysbench("FATAL: unable to connect"),
                lambda: outputs.curl_bytes_per_second("404 153 9000\n"),
                lambda: outputs.iperf3('{"error": "unable to connect to server"}'),
                lambda: outputs.iperf3("iperf3: error"),
                lambda: outputs.sockperf_latency("sockperf: Test end"),
                lambda: outputs.own_figure("Traceback")):
            self.assertRaises(outputs.WrongOutput, wrong)


STATS = """{"pid":1,"program":"server","connections":2,"upgraded":1,"tcp_sent":50,"tcp_received":50,"fifo_sent":900,"fifo_received":0,"fallbacks":{"exec":2}}
{"pid":2,"program":"client","connections":2,"upgraded":2,"tcp_sent":0,"tcp_received":0,"fifo_sent":0,"fifo_received":900,"fallbacks":{"exec":1,"out of memory":5}}
{"pid":3,"program":"cli
"""


def sample(row_id, carrier, repetition, value, stats="", problem=""):
    return {"case_id": row_id, "carrier": carrier, "repetition": repetition, "value": value, "problem": problem,
            **samples.routes_of(stats)}


def row(row_id, **more):
    return Row(row_id, f"the program {row_id} <&>", "requests/s", None, **more)


class Samples(unittest.TestCase):
    def line(self, values, stats=STATS, **more):
        """values: {carrier: figures of the repetitions; None: failed}."""
        taken = []
        for carrier, figures in values.items():
            for repetition, value in enumerate(figures):
                taken.append(sample("a", carrier, repetition, value or 0, stats if carrier not in (TCP, UNIX) else "",
                                    "" if value else "it hangs"))
        return samples.make_lines([row("a", **more)], taken, {})[0]

    def test_routes_and_reasons_are_added_up_and_a_torn_line_is_left_out(self):
        found = samples.routes_of(STATS)
        self.assertEqual(2, found["routes"]["processes"])
        self.assertEqual(3, found["routes"]["upgraded"])
        self.assertEqual({"exec": 3, "out of memory": 5}, found["fallbacks"])
        self.assertEqual(900, found["programs"]["server"]["fifo_sent"])
        self.assertAlmostEqual(1800 / 1900, samples.fifo_share(found["routes"]))
        self.assertIsNone(samples.fifo_share(samples.routes_of("")["routes"]))

    def test_the_ratio_is_the_median_of_ratios_within_a_repetition(self):
        line = self.line({TCP: [100, 10, 50], OURS: [200, 10, 150]})
        ours = line.columns[OURS]
        self.assertEqual((150, 10, 200), (ours.value.median, ours.value.lowest, ours.value.highest))
        self.assertEqual((2, 1, 3), (ours.against_tcp.median, ours.against_tcp.lowest, ours.against_tcp.highest))
        self.assertEqual(2, line.ratio())

    def test_less_is_better(self):
        self.assertEqual(4, self.line({TCP: [40], OURS: [10]}, lower_is_better=True).ratio())

    def test_a_failed_repetition_has_no_ratio_and_is_told(self):
        line = self.line({TCP: [100, 100], OURS: [None, 300]})
        self.assertEqual(3, line.ratio())
        self.assertEqual("it hangs", line.columns[OURS].problem)

    def test_goals(self):
        self.assertEqual([True, False], [v.ok for v in self.line({TCP: [10], OURS: [11]}).verdicts])
        self.assertEqual([False, False], [v.ok for v in self.line({TCP: [10], OURS: [9]}).verdicts])
        self.assertEqual([True, True], [v.ok for v in self.line({TCP: [10], OURS: [26]}, goals=at_least(2, 2.5)).verdicts])

    def test_a_figure_without_fifos_reaches_no_goal(self):
        by_tcp = STATS.replace('"fifo_sent":900', '"fifo_sent":9').replace('"fifo_received":900', '"fifo_received":9')
        self.assertEqual([False, False], [v.ok for v in self.line({TCP: [10], OURS: [90]}, by_tcp).verdicts])
        self.assertEqual([True, True], [v.ok for v in self.line({TCP: [10], OURS: [90]}, by_tcp, accelerated=False).verdicts])

    def test_what_was_not_measured_is_missed(self):
        good = self.line({TCP: [10], OURS: [30]})
        self.assertEqual([], samples.missed([good], whole_table=True))
        nothing = samples.make_lines([row("b")], [], {"b": "this release has no package b"})[0]
        self.assertEqual(1, len(samples.missed([good, nothing], whole_table=False)))
        failed = self.line({TCP: [10], OURS: [None]})
        self.assertEqual(1, len(samples.missed([failed], whole_table=False)))

    def test_the_mean_is_geometric_and_has_a_must_of_its_own(self):
        lines = [self.line({TCP: [10], OURS: [40]}), self.line({TCP: [10], OURS: [10]})]
        self.assertAlmostEqual(2, samples.geometric_mean(lines))
        self.assertIsNone(samples.geometric_mean([]))
        slow = [self.line({TCP: [10], OURS: [11]})]
        self.assertEqual(["geometric mean: 1.10x, must be 1.8x"], samples.missed(slow, whole_table=True))
        self.assertEqual([], samples.missed(slow, whole_table=False))

    def test_json_has_everything(self):
        line = self.line({TCP: [10], UNIX: [12], OURS: [30], OTHER: [20]})
        found = samples.to_json([line], {"machine": {}})
        columns = {each["carrier"]: each for each in found["rows"][0]["columns"]}
        self.assertEqual({"median": 3, "lowest": 3, "highest": 3}, columns[OURS]["against_tcp"])
        self.assertEqual({"exec": 3, "out of memory": 5}, columns[OTHER]["fallbacks"])
        self.assertEqual(2, found["geometric_mean_other_build"])


class Shown(unittest.TestCase):
    def setUp(self):
        taken = [sample("a", TCP, 0, 100), sample("a", UNIX, 0, 150), sample("a", OURS, 0, 250, STATS),
                 sample("a", OTHER, 0, 50, STATS), sample("b", TCP, 0, 100), sample("b", OURS, 0, 0, "", "b hangs")]
        self.lines = samples.make_lines([row("a", family="x"), row("b", family="x"), row("c", family="y")], taken,
                                        {"c": "this release has no package c"})

    def test_table(self):
        found = text.table(self.lines)
        for words in ("2.50x (2.50-2.50)", "0.50x", "94.7 %", "5 x out of memory, 3 x exec", "b hangs",
                      "this release has no package c", "geometric mean of 1 of 3 rows: 2.50x",
                      "the other build's: 0.50x"):
            self.assertIn(words, found)

    def test_picture(self):
        found = picture.draw(self.lines, "a title", "a machine")
        root = xml.fromstring(found)  # and so the title's <&> is escaped
        shown = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
        for words in ("the program a <&>", "2.50x", "95 % by FIFO", "1.0 = TCP", "this release has no package c",
                      "b hangs", "other build"):
            self.assertIn(words, shown)

    def test_a_bar_goes_from_one_to_its_ratio_on_a_logarithmic_axis(self):
        axis = picture.Axis([0.1, 10], 100, 200)
        self.assertAlmostEqual(200, axis.at(1))
        self.assertAlmostEqual(axis.at(4) - axis.at(2), axis.at(2) - axis.at(1))
        self.assertGreaterEqual(axis.at(0.0001), 100)
        self.assertLessEqual(axis.at(10), 300)
        self.assertEqual([0.1, 0.2, 0.5, 1, 2, 5, 10], axis.ticks())


class Rows(unittest.TestCase):
    def test_every_row_can_be_named_and_told(self):
        found = rows.all_rows()
        self.assertEqual(len(found), len({each.id for each in found}))
        for each in found:
            self.assertLessEqual(len(each.id), text.ID_WIDTH, each.id)
            self.assertTrue(each.packages and each.family and each.goals, each.id)

    def test_a_name_is_a_row_or_the_beginning_of_rows(self):
        found = rows.all_rows()
        self.assertEqual(["nginx-1k"], [each.id for each in rows.chosen(found, ["nginx-1k"])])
        self.assertEqual(["redis-get-c1", "iperf3"], [each.id for each in rows.chosen(found, ["iperf3", "redis-get-c1"])])
        self.assertEqual(9, len(rows.chosen(found, ["redis"])))
        self.assertRaises(KeyError, rows.chosen, found, ["nothing"])


class Remaining(unittest.TestCase):
    def test_by_the_row_itself_and_else_by_what_was_seen(self):
        now = [0.0]
        progress = Progress({"a": 2, "b": 4}, 1, io.StringIO(), lambda: now[0])
        self.assertAlmostEqual(6 * progress.guess, progress.remaining_s())
        now[0] = 3.0
        progress.done("a", "first")
        self.assertAlmostEqual(5 * 3, progress.remaining_s())
        now[0] = 4.0
        progress.done("b", "second")
        self.assertAlmostEqual(1 * 3 + 3 * 1, progress.remaining_s())


class Stages(unittest.TestCase):
    def setUp(self):
        self.workshop = Workshop(None, None, 1, smoke=False)
        self.addCleanup(self.workshop.remove)

    def test_what_a_client_prints_and_how_it_fails(self):
        with Stage(self.workshop, "a", TCP, {}) as stage:
            self.assertEqual("hello\n", stage.client(["sh", "-c", "echo hello"]))
            self.assertRaisesRegex(Failed, "sh ends with 3: no reason", stage.client, ["sh", "-c", "echo no reason >&2; exit 3"])
            self.assertRaisesRegex(Failed, "sleep hangs", stage.client, ["sleep", "60"], limit_s=0.1)
            self.assertRaisesRegex(Failed, "not installed", stage.client, ["no-such-program"])

    def test_a_server_that_ends_at_once_is_told_and_one_that_stays_is_ended(self):
        with Stage(self.workshop, "a", TCP, {}) as stage:
            self.assertRaisesRegex(Failed, "sh does not start: wrong", stage.server, ["sh", "-c", "echo wrong; exit 1"],
                                   ready=lambda: False)
            child = stage.server(["sleep", "60"])
        self.assertIsNotNone(child.poll())

    def test_all_carriers_have_the_count_that_tcp_found(self):
        memory, counts = {}, []

        def run(count):
            counts.append(count)
            return 5000.0 * len(counts)

        for carrier in (TCP, OURS):
            with Stage(self.workshop, "a", carrier, memory) as stage:
                stage.sized(run, 100)
        self.assertEqual([100, 5000, 5000], counts)


if __name__ == "__main__":
    unittest.main()
