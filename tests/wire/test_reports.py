"""What the tracker tells commands, as it travels."""

import msgspec
import pytest

from netstack.wire.reports import DoneReport, LeaseReport, LeaseReports, RefusalReport, WhyReport, decode, encode

LEASE = LeaseReport(
    address="192.0.2.1", names=["www.example"], chain=["cdn.example"], client="10.0.0.2", expires_in=9.5
)
REFUSAL = RefusalReport(reason="rebind", detail="removed 10.0.0.1", client="10.0.0.2", at=1.7e9, count=2)


@pytest.mark.parametrize(
    "report",
    [
        LeaseReports(leases=[LEASE]),
        WhyReport(target="x", open=False, because="never an answer", leases=[LEASE], refused=REFUSAL, remedies=["a"]),
        DoneReport(done="allowed", expires_in=None, revoked=["192.0.2.1"]),
    ],
    ids=["leases", "why", "done"],
)
def test_a_report_comes_back_as_it_went(report: LeaseReports | WhyReport | DoneReport) -> None:
    assert decode(encode(report), type(report)) == report  # type: ignore[type-var]


def test_another_text_is_no_report() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode('{"target": 1}', WhyReport)
