"""The load generators' output: what iperf3 3.12, wrk 4.1.0 and ping 20221126 wrote, cut down to what is read."""

import json

import pytest

from bench.workloads import (
    WORKLOADS,
    Reading,
    WorkloadError,
    parse_iperf_tcp,
    parse_iperf_udp,
    parse_ping,
    parse_trains,
    parse_wrk,
)

IPERF_TCP = json.dumps({"end": {"sum_received": {"seconds": 2.0, "bytes": 1_000_000_000, "bits_per_second": 4.0e9}}})
IPERF_UDP = json.dumps(
    {"end": {"sum_received": {"seconds": 2.0, "packets": 110_000, "lost_packets": 10_000, "bytes": 140_000_000}}}
)
WRK = """\
Running 2s test @ http://198.18.1.1/tiny
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   462.74us  655.38us   7.46ms   92.68%
    Req/Sec     4.85k     3.39k    9.03k    50.00%
  9648 requests in 2.01s, 2.25MB read
{errors}Requests/sec:   4789.83
Transfer/sec:      1.11MB
"""
PING = """\
PING 198.18.1.1 (198.18.1.1) 56(84) bytes of data.

--- 198.18.1.1 ping statistics ---
{counts}, time 4992ms
rtt min/avg/max/mdev = 0.110/0.212/1.403/0.051 ms
"""


@pytest.mark.parametrize(
    ("parse", "output", "reading"),
    [
        (parse_iperf_tcp, IPERF_TCP, Reading(4.0, 1_000_000_000)),
        (parse_iperf_udp, IPERF_UDP, Reading(50.0, 100_000)),
        (parse_wrk, WRK.format(errors=""), Reading(4789.83, 9648)),
        (
            parse_wrk,
            WRK.format(errors="  Socket errors: connect 0, read 0, write 208, timeout 0\n"),
            Reading(4789.83, 9648, "Socket errors: connect 0, read 0, write 208, timeout 0"),
        ),
        (parse_trains, '{"seconds": 0.5, "sent": 60000, "received": 50000.0}', Reading(100.0, 50_000)),
        (
            parse_ping,
            PING.format(counts="500 packets transmitted, 500 received, 0% packet loss"),
            Reading(212.0, 500),
        ),
        (
            parse_ping,
            PING.format(counts="500 packets transmitted, 498 received, 0.4% packet loss"),
            Reading(212.0, 498, "2 echoes were not answered"),
        ),
    ],
    ids=[
        "TCP counts what arrived, in Gbit/s",
        "UDP counts datagrams sent less those lost, in thousands a second",
        "wrk counts requests that were answered",
        "wrk's failed connections are mentioned beside the figure",
        "trains count datagrams that came, in thousands a second",
        "ping gives the mean round trip in microseconds",
        "lost echoes are mentioned beside the figure",
    ],
)
def test_reading(parse, output, reading):
    assert parse(output) == reading


@pytest.mark.parametrize(
    ("parse", "output", "message"),
    [
        (parse_iperf_tcp, '{"error": "unable to connect to server"}', "iperf3: unable to connect to server"),
        (parse_iperf_tcp, "Segmentation fault", "iperf3 wrote no JSON"),
        (parse_iperf_udp, IPERF_UDP.replace("110000", "10000"), "no datagram arrived"),
        (parse_wrk, "unable to connect to 198.18.1.1:80 Connection refused", "wrk finished no request"),
        (parse_wrk, WRK.format(errors="").replace("9648", "0"), "wrk finished no request"),
        (parse_wrk, WRK.format(errors="  Non-2xx or 3xx responses: 12\n"), "Non-2xx or 3xx responses: 12"),
        (parse_trains, "Traceback", "no count of datagrams"),
        (parse_trains, '{"seconds": 0.5, "sent": 60000, "received": 0.0}', "no datagram arrived"),
        (parse_ping, "5 packets transmitted, 0 received, 100% packet loss, time 40ms", "no echo was answered"),
    ],
    ids=[
        "iperf3's own error",
        "no JSON at all",
        "every datagram was lost",
        "wrk could not connect",
        "not one request was answered",
        "answers that are errors are no figure",
        "the counter of datagrams was not heard",
        "not one datagram of a train arrived",
        "not one echo was answered",
    ],
)
def test_what_is_no_figure_is_refused_with_the_reason(parse, output, message):
    with pytest.raises(WorkloadError, match=message):
        parse(output)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.name)
def test_every_workload_takes_about_the_time_it_was_given(workload):
    commands = workload.commands(4.0)

    assert sum(map(seconds_of, commands)) == pytest.approx(4)


def seconds_of(command):
    match command[0]:
        case "iperf3":
            return int(command[command.index("-t") + 1])
        case "wrk":
            return int(command[3][2:-1])  # "-d4s"
        case "ping":
            return int(command[command.index("-c") + 1]) * float(command[command.index("-i") + 1])
    return float(command[command.index("send") + 3])
