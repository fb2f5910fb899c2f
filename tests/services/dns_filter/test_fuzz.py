"""Messages as they were on the wire, mutated: nothing comes out but what is promised, and nothing is kept.

`NETSTACK_FUZZ=1000000` tries so many; it takes some minutes, and looks at the memory of the process too.
"""

import os
import random
from pathlib import Path
from typing import Final

import pytest

from netstack.packet.scope import is_public
from netstack.runtime.config import Config, Deny, Tcp
from services.dns_filter import message as dns
from services.dns_filter.answer import Answer, filter_answer
from services.dns_filter.cache import Cache
from services.dns_filter.leased import Leased
from services.dns_filter.local import answer_to_any, refusal
from services.dns_filter.message import MalformedMessageError, name_text
from services.dns_filter.policy import Policy
from services.dns_filter.query import Query, UnanswerableError, answers, emit_upstream, parse
from services.dns_filter.reading import read
from services.dns_filter.reply import emit_answer, emit_refusal
from tests.resident import resident

TRIES: Final = int(os.environ.get("NETSTACK_FUZZ", "8000"))
IS_LONG: Final = TRIES >= 100_000
SEED: Final = int(os.environ.get("NETSTACK_FUZZ_SEED", "1"))
MAX_GROWTH: Final = 16 << 10  # KiB of resident memory beyond what the first tenth took

_INTERESTING: Final = (0, 1, 0x7F, 0x80, 0xC0, 0xFF, 41, 250, 63, 64)
_NUMBERS: Final = (0, 1, 2, 5, 28, 41, 64, 65, 255, 256, 0x7FFF, 0x8000, 0xC00C, 0xFFFF)


def captured(kind: str) -> list[bytes]:
    lines = (Path(__file__).parent / "captured.txt").read_text().splitlines()
    return [bytes.fromhex(line.split()[1]) for line in lines if line.startswith(kind)]


QUERIES: Final = captured("query")
ANSWERS: Final = captured("answer")


def mutated(octets: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The message with one to four things wrong with it."""
    changed = bytearray(octets)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        at = rng.randrange(len(changed))
        match rng.randrange(10):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice(_INTERESTING)
            case 2:
                changed[at] = rng.randrange(256)
            case 3:
                changed[at : at + 2] = rng.choice(_NUMBERS).to_bytes(2, "big")
            case 4:
                changed[at : at + 2] = (0xC000 | rng.randrange(len(changed) + 2) & 0x3FFF).to_bytes(2, "big")
            case 5:
                del changed[at : at + rng.choice((1, 1, 2, 4, 30))]
            case 6:
                changed[at:at] = rng.randbytes(rng.choice((1, 1, 2, 4, 30)))
            case 7:
                del changed[at:]
            case 8:
                start = rng.randrange(4, 12)  # the flags and the counts
                changed[start : start + 1] = bytes([rng.choice(_INTERESTING)])
            case _:
                other = rng.choice(others)
                changed[at:] = other[rng.randrange(len(other)) :]
    return bytes(changed)


class Filter:
    """Both ways of a message, as the resolver puts them together, with a cache between."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        config = Config(deny=Deny(names=["blocked.example"]), tcp=Tcp(sni="enforce"))
        self.policy = Policy(config)
        self.cache = Cache(max_entries=100)
        self.leased = Leased(300, 60, max_answers=100)
        self.read = 0
        """Messages that were taken for what they are."""

    def query(self, octets: bytes) -> None:
        try:
            query = parse(octets)
        except UnanswerableError as error:
            self._refused(error, octets)
            return
        self.read += 1
        assert query.question == octets[12 : 12 + len(query.question)]
        denied = self.policy.denied_by((query.qname,))
        canary = self.policy.canary(query.qname)
        refused = refusal(query)
        sent = emit_upstream(query, 1, padded=True)
        assert parse(sent).key == query.key
        self._is_reply(emit_refusal(query, 3, 15, f"{denied} {canary} {refused} {query}"), query)
        hit = self.cache.get(query.key, 2.0)
        answer = hit.answer if hit is not None else answer_to_any(query)
        if answer is not None:
            self._give(query, answer)

    def _refused(self, error: UnanswerableError, octets: bytes) -> None:
        assert error.reply is None or error.reply[:2] == octets[:2]

    def answer(self, octets: bytes, query: Query) -> None:
        answers(query, 1, octets)
        # Whoever answers repeats the question, or is not heard; what lies behind may be anything.
        octets = (1).to_bytes(2, "big") + octets[2:12] + query.question + octets[12 + len(query.question) :]
        if not answers(query, 1, octets):
            return
        try:
            answer = filter_answer(octets, query, self.policy)
        except MalformedMessageError:
            return
        self.read += 1
        assert all(map(is_public, answer.addresses))
        assert all(name_text(name) for name in answer.names)
        assert self.policy.denied_by(answer.names) in {None, 'deny.names "blocked.example"'}
        self.cache.put(query.key, answer, 1.0)
        self.leased.remember(answer, 400.0)
        assert self.leased.covers(answer, 0, 1.0)
        self._give(query, answer)

    def _give(self, query: Query, answer: Answer) -> None:
        udp = self._rng.random() < 0.5
        reply = emit_answer(query, answer, udp=udp, age=self._rng.choice((0, 1, 500)), max_ttl=240, error=b"\0\x16x")
        self._is_reply(reply, query)
        assert len(reply) <= (query.udp_size if udp else dns.MAX_MESSAGE)
        reading = read(reply, query)
        assert all(record.ttl <= 240 for record in reading.records if record.rtype != dns.OPT)
        assert not any(map(self.policy.is_removed, reading.everywhere))
        assert not reading.offers_h3
        assert not reading.offers_ech
        assert set(reading.addresses) <= set(answer.addresses)

    def _is_reply(self, reply: bytes, query: Query) -> None:
        assert int.from_bytes(reply[:2], "big") == query.id
        assert reply[2] & 0x80
        assert reply[12 : 12 + len(query.question)] == query.question


@pytest.mark.timeout(60 + TRIES // 200)
def test_mutated_messages_do_no_harm_and_leave_nothing_behind() -> None:
    rng = random.Random(SEED)
    one = Filter(rng)
    asked = [parse(octets) for octets in QUERIES]
    baseline = 0
    for number in range(TRIES):
        if number % 2:
            octets = mutated(rng.choice(QUERIES), QUERIES, rng)
            call, more = one.query, ()
        else:
            octets = mutated(rng.choice(ANSWERS), ANSWERS, rng)
            call, more = one.answer, (_asked_by(octets) or rng.choice(asked),)
        try:
            call(octets, *more)
        except BaseException:
            print(f"message {number} of seed {SEED}: {octets.hex()}")
            raise
        if number == TRIES // 10:
            baseline = resident()
    assert one.read > TRIES // 10, "too few were taken for messages to say anything"
    if IS_LONG:
        growth = resident() - baseline
        print(f"{TRIES:,} messages, {one.read:,} read, {growth} KiB more than after a tenth of them")
        assert growth < MAX_GROWTH


def _asked_by(octets: bytes) -> Query | None:
    """The question of an answer, as a query."""
    try:
        return parse(b"\0\1\1\0\0\1\0\0\0\0\0\0" + octets[12 : dns.question_end(octets)])
    except (MalformedMessageError, UnanswerableError):
        return None
