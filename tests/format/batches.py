"""Kafka's record batches, message format 2: big-endian, as a broker hands them out."""

import struct

import codecs_of_kafka as codecs

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = crc32c_table()


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def batches(data):
    """Each batch's header and records, its checksum proven."""
    at = 0
    while at < len(data):
        header = struct.unpack_from(">qiibIhiqqqhii", data, at)
        (base, length, epoch, magic, crc, attributes, delta, base_time, max_time, producer, producer_epoch, _, count) = header
        whole = data[at : at + 12 + length]
        if len(whole) != 12 + length or magic != 2:
            raise ValueError(f"no whole batch of format 2 at {at}")
        if crc32c(whole[21:]) != crc:
            raise ValueError(f"the checksum of the batch at offset {base} does not match")
        batch = {
            "base_offset": base,
            "last_offset": base + delta,
            "leader_epoch": epoch,
            "crc32c": crc,
            "log_append_time": bool(attributes & 0x08),
            "transactional": bool(attributes & 0x10),
            "control": bool(attributes & 0x20),
            "base_timestamp": base_time,
            "max_timestamp": max_time,
            "producer_id": producer,
            "producer_epoch": producer_epoch,
            "count": count,
        }
        yield batch, list(records(batch, codecs.decompress(CODECS[attributes & 7], whole[61:])))
        at += len(whole)


def records(batch, data):
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value >> 1 ^ -(value & 1)

    def sized():
        nonlocal at
        length = varint()
        if length < 0:
            return None
        value = data[at : at + length]
        at += length
        return value

    for _ in range(batch["count"]):
        length = varint()
        end = at + length
        at += 1
        timestamp = batch["base_timestamp"] + varint()
        offset = batch["base_offset"] + varint()
        key, value = sized(), sized()
        headers = [(sized(), sized()) for _ in range(varint())]
        if at != end:
            raise ValueError(f"the record at offset {offset} has another length than it says")
        if batch["log_append_time"]:
            timestamp = batch["max_timestamp"]
        yield offset, timestamp, key, value, headers
    if at != len(data):
        raise ValueError(f"bytes follow the last record of the batch at offset {batch['base_offset']}")
