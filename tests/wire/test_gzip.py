"""gzip for streams: blocks that stand alone, any mixture of them as one stream, and an end where it is whole only."""

from __future__ import annotations

import gzip
import random
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest

from django_agent_sse.wire import gzip as module
from django_agent_sse.wire.gzip import HEADER, LARGE_BYTES, LAST_BLOCK, Block, GzipEncoder, Mark, deflate

FLUSHED = b"\x00\x00\xff\xff"
"""What an empty stored block ends with: after it a decoder has everything that was before."""
STREAMS = 300
COUNT = 100


def inflated(block: bytes) -> bytes:
    """What a decoder that has seen nothing else makes of a block."""
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = decoder.decompress(block)
    assert (decoder.unused_data, decoder.unconsumed_tail, decoder.eof) == (b"", b"", False)
    return plain


def lines(random: random.Random, size: int) -> bytes:
    words = ["compiling", "linked", "ok", "warning:", "тест", *(f"{random.randrange(10**6)}" for _ in range(20))]
    text = bytearray()
    while len(text) < size:
        text += f"data: {' '.join(random.choices(words, k=6))}\n\n".encode()
    return bytes(text[:size])


@pytest.fixture
def random_() -> random.Random:
    return random.Random(20261129)


def test_every_block_stands_alone_and_ends_at_a_byte(random_: random.Random) -> None:
    pieces = [lines(random_, size) for size in (0, 1, 2, 60, 60, 1_000, 65_536, 200_000, 60)]
    for piece in [*pieces, *(random_.randbytes(size) for size in (1, 70_000))]:
        block = deflate(piece)
        assert block.endswith(FLUSHED)
        assert inflated(block) == piece


def test_a_block_is_the_same_whatever_was_deflated_before(random_: random.Random) -> None:
    piece = lines(random_, 900)
    before = deflate(piece)
    deflate(lines(random_, 50_000))
    assert deflate(piece) == before


def test_threads_do_not_meet_in_one_compressor(random_: random.Random) -> None:
    pieces = [lines(random_, 20_000) for _ in range(4)]
    wrong: list[int] = []

    def work(number: int) -> None:
        wrong.extend(number for _ in range(50) if inflated(deflate(pieces[number])) != pieces[number])

    threads = [threading.Thread(target=work, args=[number]) for number in range(len(pieces))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def mixed(random: random.Random) -> Iterator[tuple[bytes, bool]]:
    """Pieces of a stream, and whether each is shared."""
    for _ in range(random.randrange(30)):
        size = random.choice([2, 40, 300, LARGE_BYTES - 1, LARGE_BYTES, 3 * LARGE_BYTES])
        yield lines(random, size), random.random() < 0.5


def test_any_mixture_is_one_gzip_stream_and_can_be_read_after_each_piece(random_: random.Random) -> None:
    """As ``gzip`` reads it, which checks the length and the checksum, and as a client does that reads what has come so far."""
    for _ in range(STREAMS):
        encoder, decoder = GzipEncoder(), zlib.decompressobj(16 + zlib.MAX_WBITS)
        sent = plain = b""
        for piece, shared in mixed(random_):
            chunk = encoder.add_block(encoder.make_block(piece)) if shared else encoder.add(piece)
            assert decoder.decompress(chunk) == piece
            assert chunk.endswith(FLUSHED)
            sent += chunk
            plain += piece
        assert not decoder.eof
        end = encoder.finish()
        assert decoder.decompress(end) == b""
        assert decoder.eof
        assert gzip.decompress(sent + end) == plain
        assert end.endswith(LAST_BLOCK + struct.pack("<LL", zlib.crc32(plain), len(plain)))


def test_streams_that_share_blocks_and_mix_in_others_each_have_their_own_checksum(random_: random.Random) -> None:
    """Whoever comes first makes a block. Others have had something else, join late, leave, write, beat, and join again."""
    for _ in range(STREAMS // 10):
        encoders = [GzipEncoder() for _ in range(6)]
        sent, plain = [b""] * len(encoders), [b""] * len(encoders)
        for _ in range(30):
            piece, block = lines(random_, random_.choice([50, 900, 70_000])), list[Block]()
            for number in random_.sample(range(len(encoders)), random_.randint(1, len(encoders))):
                encoder = encoders[number]
                if random_.random() < 0.15:
                    own = lines(random_, random_.choice([2, 100, 3_000]))
                    sent[number] += encoder.add(own)
                    plain[number] += own
                if random_.random() < 0.1:
                    sent[number] += encoder.add_deflated(b":\n", deflate(b":\n"))
                    plain[number] += b":\n"
                block = block or [encoder.make_block(piece)]
                sent[number] += encoder.add_block(block[0])
                plain[number] += piece
        for number, encoder in enumerate(encoders):
            assert gzip.decompress(sent[number] + encoder.finish()) == plain[number]


def test_who_goes_along_with_the_same_blocks_computes_nothing_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = GzipEncoder(), GzipEncoder()
    other.add(b"data: something else\n\n")
    blocks = []
    for number in range(100):
        blocks.append(first.make_block(b"data: %d\n\n" % number))
        first.add_block(blocks[-1])
    other.add_block(blocks[0])
    monkeypatch.setattr(module, "crc32", lambda *_: pytest.fail("a checksum goes over bytes that others have counted"))
    monkeypatch.setattr(GzipEncoder, "_place", lambda _: pytest.fail("its place is worked out though nothing else is sent"))
    for block in blocks[1:]:
        assert other.add_block(block) is block.deflated


def test_a_stream_without_its_end_is_seen_to_be_cut(random_: random.Random) -> None:
    encoder = GzipEncoder()
    sent = encoder.add(lines(random_, 500)) + encoder.add(lines(random_, 5_000))
    with pytest.raises(EOFError):
        gzip.decompress(sent)
    for cut in range(1, len(end := encoder.finish())):
        with pytest.raises(EOFError):
            gzip.decompress(sent + end[:cut])


def test_an_empty_stream_is_a_whole_one() -> None:
    end = GzipEncoder().finish()
    assert end.startswith(HEADER)
    assert gzip.decompress(end) == b""


def test_the_length_is_counted_beyond_32_bits() -> None:
    encoder = GzipEncoder()
    encoder._mark = Mark(0, 2**32 - 9)
    encoder._left = encoder._joined = encoder._mark
    encoder.add(b"data: x\n\n")
    encoder.add(b"data: y\n\n")
    assert encoder.finish()[-4:] == struct.pack("<L", 9)


def test_deltas_refer_to_those_before_them_and_shared_blocks_do_not() -> None:
    deltas = [b'data: {"type":"text-delta","id":"txt-0","delta":" %d"}\n\n' % number for number in range(100, 200)]
    own, alone = GzipEncoder(), GzipEncoder()
    plain = sum(map(len, deltas))
    assert sum(len(own.add(delta)) for delta in deltas) < 0.35 * plain
    assert sum(len(alone.add_block(alone.make_block(delta))) for delta in deltas) > 0.8 * plain


def test_a_connections_own_compressor_is_small_comes_with_the_second_write_and_goes_when_others_share() -> None:
    block = GzipEncoder().make_block(b":\n")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        encoders = [GzipEncoder() for _ in range(COUNT)]
        for encoder in encoders:
            encoder.add(b"retry: 3000\n\n")
        begun, _ = tracemalloc.get_traced_memory()
        for encoder in encoders:
            encoder.add(b"data: mine\n\n")
        writing, _ = tracemalloc.get_traced_memory()
        for encoder in encoders:
            encoder.add_block(block)
        sharing, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (begun - before) / COUNT < 1_000, "thousands that follow may connect at once"
    assert 8_000 < (writing - before) / COUNT < 13_000
    assert (sharing - before) / COUNT < 300
