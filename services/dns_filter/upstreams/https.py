"""DNS over HTTPS (RFC 8484): one HTTP/2 connection, reused, to an address that is fixed beforehand.

The address stands in the URL that is asked for, the name in the Host header and in the TLS handshake, so that no
resolver is needed and the certificate is checked against the name. Importing this takes 0.1 s (httpx2), so it is
deferred (deferred.py).
"""

import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import httpx2

from services.dns_filter.message import MAX_MESSAGE
from services.dns_filter.query import Query, answers, emit_upstream
from services.dns_filter.upstreams.certificates import authorities, certificate_error
from services.dns_filter.upstreams.upstream import OnMismatch, UpstreamError, failing_as_upstream, reason_of

MEDIA_TYPE: Final = "application/dns-message"
_OK: Final = 200


class HttpsTransport:
    """One resolver over HTTPS."""

    def __init__(
        self, label: str, addresses: Sequence[str], tls_ca: str, on_mismatch: OnMismatch,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """label is the URL; tls_ca a file of CA certificates in place of the system's; headers are sent besides ours.

        Raises OSError for certificates that cannot be read.
        """
        self.label = label
        self._addresses = list(addresses)
        self._on_mismatch = on_mismatch
        url = urlsplit(label)
        self._host = url.hostname or ""
        self._port = url.port
        self._path = url.path
        self._headers = {
            "host": url.netloc,
            "accept": MEDIA_TYPE,
            "content-type": MEDIA_TYPE,
            # A compressed body could be of any size once unpacked.
            "accept-encoding": "identity",
            "user-agent": "netstack",
            **(headers or {}),
        }
        # httpx2 would bring a list of certificates of its own; the administrator's is the system's.
        self._tls = authorities(tls_ca)
        self._client: httpx2.AsyncClient | None = None
        self._heard_at = 0.0

    async def ask(self, query: Query, patience: float) -> bytes:
        """See Transport."""
        asked_at = time.monotonic()
        client = self._get_client()
        try:
            async with failing_as_upstream(patience):
                return await self._ask(query)
        except UpstreamError as error:
            if error.silent and self._heard_at < asked_at:
                await self._give_up(client)  # its connection may lead nowhere, and would be waited on for minutes
            raise

    async def prepare(self) -> None:
        """Make the client; its connection is opened by the first question."""
        self._get_client()

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _ask(self, query: Query) -> bytes:
        # Once per address, and once more for a reused connection that the server has closed meanwhile.
        failure: httpx2.HTTPError | None = None
        for _ in range(len(self._addresses) + 1):
            client = self._get_client()
            try:
                return await self._post(client, query)
            except httpx2.ConnectError as error:
                failure = error
                await self._give_up(client)
            except httpx2.HTTPError as error:
                failure = error
        raise UpstreamError(_reason(failure))

    async def _post(self, client: httpx2.AsyncClient, query: Query) -> bytes:
        # "a DNS ID of 0 in every DNS request" (RFC 8484 section 4.1); the stream tells answers apart.
        message = emit_upstream(query, 0, padded=True)
        received = bytearray()
        async with client.stream(
            "POST", self._path, content=message, headers=self._headers, extensions={"sni_hostname": self._host}
        ) as response:
            if response.status_code != _OK:
                raise UpstreamError(f"HTTP status {response.status_code}")
            if response.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
                raise UpstreamError("an answer that is no DNS message")
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > MAX_MESSAGE:
                    raise UpstreamError(f"an answer of more than {MAX_MESSAGE} octets")
        self._heard_at = time.monotonic()
        octets = bytes(received)
        if not answers(query, 0, octets):
            self._on_mismatch()
            raise UpstreamError("an answer to another question")
        return octets

    def _get_client(self) -> httpx2.AsyncClient:
        if self._client is None:
            address = self._addresses[0]
            base = httpx2.URL(scheme="https", host=address, port=self._port)
            # trust_env: a proxy of the environment would be another way out, and would resolve the name itself.
            # timeout: the caller's patience is the only one.
            self._client = httpx2.AsyncClient(
                base_url=base, verify=self._tls, http2=True, trust_env=False, timeout=None
            )
        return self._client

    async def _give_up(self, client: httpx2.AsyncClient) -> None:
        """Go on with the next address, unless somebody else has done so since."""
        if self._client is client:
            self._addresses.append(self._addresses.pop(0))
            await self.close()


def _reason(failure: Exception | None) -> str:
    """What lies beneath httpx2's wrapping: the refusal of the network, or of the certificate."""
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return certificate_error(cause.verify_message)
        if isinstance(cause, OSError) and cause.errno is not None:
            return reason_of(cause)
        cause = cause.__cause__ or cause.__context__
    return reason_of(failure or UpstreamError("not asked"))
