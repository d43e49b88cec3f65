#!/usr/bin/env python3
"""Reads a kafkeep repository of format 1, as docs/format.md describes it, and proves every byte that it uses.

    reader.py list REPOSITORY              one JSON line a backup, topic and partition, and a backup that expired
    reader.py dump REPOSITORY [BACKUP]     one JSON line a record (and control record); the newest backup by default

Written from that page alone, to show that the page is enough. Python 3.11 or later; see codecs_of_kafka.py for codecs.
"""

import base64
import hashlib
import json
import struct
import sys
import zlib
from pathlib import Path

import batches
import codecs_of_kafka as codecs

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def need(holds, what):
    if not holds:
        raise SystemExit(f"damaged: {what}")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sealed_json(path, key):
    """The value that stands before its own SHA-256."""
    text = path.read_text("utf-8")
    start = text.index(f'"{key}"') + len(key) + 2
    start = text.index("{", start)
    value, end = json.JSONDecoder().raw_decode(text, start)
    need(sha256(text[start:end].encode()) == json.loads(text)["sha256"], path)
    need(value["format"] == 1, f"{path} has format {value['format']}")
    return value


class Repository:
    def __init__(self, path):
        self.path = Path(path)
        self.id = sealed_json(self.path / "kafkeep.json", "repository")["repository_id"]
        self.packs = {}

    def backups(self):
        """In their order, oldest first."""
        return sorted(path.stem for path in (self.path / "backups").glob("*.json"))

    def manifest(self, backup_id):
        manifest = sealed_json(self.path / "backups" / f"{backup_id}.json", "manifest")
        need(manifest["backup_id"] == backup_id, f"the manifest of {backup_id} is another's")
        need(manifest["repository_id"] == self.id, f"the manifest of {backup_id} is another repository's")
        return manifest

    def expired(self):
        """The backups that were taken away on purpose, by id, and the id from which on none is left out."""
        records = [sealed_json(path, "expired") for path in sorted((self.path / "expired").glob("*.json"))]
        need(all(record["repository_id"] == self.id for record in records), "a record of expired backups is another repository's")
        backups = {backup["backup_id"]: backup for record in records for backup in record["backups"]}
        return backups, max((record.get("complete_from") or "" for record in records), default="")

    def prove_previous(self, manifest):
        """The backup that one was planned on is there and the same, or expired."""
        previous = manifest.get("previous")
        if previous is None:
            return
        path = self.path / "backups" / f"{previous['backup_id']}.json"
        if path.exists():
            digest = json.loads(path.read_text("utf-8"))["sha256"]
            need(digest == previous["sha256"], f"{path} is not what {manifest['backup_id']} was planned on")
        else:
            expired, complete_from = self.expired()
            gone = previous["backup_id"] in expired or previous["backup_id"] < complete_from
            need(gone, f"{path} is gone, and did not expire")

    def named_json(self, directory, digest):
        data = (self.path / directory / f"{digest}.json.zst").read_bytes()
        need(sha256(data) == digest, f"{directory}/{digest}")
        return json.loads(codecs.zstd(data))

    def extents(self, tip):
        """Partition -> extents, each with the pack that it lies in: the chain of layers, oldest first."""
        chain = []
        while tip is not None:
            chain.append(self.named_json("index", tip))
            need(chain[-1]["format"] == 1, f"index/{tip} has another format")
            tip = chain[-1]["parent"]
        found = {}
        for layer in reversed(chain):
            for partition, rows in layer["partitions"].items():
                for row in rows:
                    extent = dict(zip(layer["extent_fields"], row, strict=True))
                    extent["pack"] = layer["packs"][extent["pack"]]
                    found.setdefault(int(partition), []).append(extent)
        for partition, extents in found.items():
            for first, second in zip(extents, extents[1:]):
                need(first["last_offset"] < second["base_offset"], f"extents of partition {partition} overlap")
        return found

    def pack(self, reference):
        """A pack's bytes and its footer's blocks by offset; opened and proven once."""
        pack_id = reference["pack_id"]
        if pack_id not in self.packs:
            data = (self.path / "packs" / pack_id[-2:] / f"{pack_id}.pack").read_bytes()
            need(len(data) == reference["length"], f"the length of pack {pack_id}")
            self.packs[pack_id] = data, self.footer(pack_id, data, reference["footer_sha256"])
        return self.packs[pack_id]

    def footer(self, pack_id, data, digest):
        magic, version, flags, length, repository, pack, keys, _, crc = struct.unpack("<8sHHI16s16sI8sI", data[:64])
        need(magic == b"kafkeepP" and zlib.crc32(data[:60]) == crc, f"the header of pack {pack_id}")
        need((version, flags, length, keys) == (1, 0, 64, 0), f"pack {pack_id} has another format")
        need(repository.hex() == self.id.replace("-", ""), f"pack {pack_id} is another repository's")
        need(pack.hex() == pack_id.replace("-", ""), f"pack {pack_id} is another pack")
        offset, length, stated, zeros, magic = struct.unpack("<QQ32s8s8s", data[-64:])
        need(magic == b"kafkeepE" and zeros == bytes(8), f"the trailer of pack {pack_id}")
        need(offset + length + 64 == len(data), f"the trailer of pack {pack_id}")
        stored = data[offset : offset + length]
        need(sha256(stored) == stated.hex() == digest, f"the footer of pack {pack_id}")
        footer = json.loads(codecs.zstd(stored))
        need((footer["format"], footer["pack_id"]) == (1, pack_id), f"the footer of pack {pack_id}")
        blocks, at = {}, 64
        for row in footer["blocks"]:
            block = dict(zip(footer["block_fields"], row, strict=True))
            need(block["offset"] == at, f"the blocks of pack {pack_id}")
            block["topic_id"] = footer["topics"][block.pop("topic")]["topic_id"]
            blocks[at] = block
            at += 128 + block["stored_len"]
        need(at == offset, f"the blocks of pack {pack_id}")
        return blocks

    def block(self, data, at, listed):
        """The batches of the block at a place of a pack."""
        header = data[at : at + 128]
        need(zlib.crc32(header[:124]) == struct.unpack("<I", header[124:])[0], f"a block header at {at}")
        need(header[:4] == b"kafB" and struct.unpack("<H", header[4:6])[0] == 128, f"a block header at {at}")
        names = (
            "flags topic_id partition leader_epoch base_offset last_offset min_timestamp max_timestamp batches records"
            " control_records compression stored_len raw_len largest_batch stored_crc32"
        ).split()
        block = dict(zip(names, struct.unpack("<H16siiqqqqIIIB3xIIII", header[6:96]), strict=True))
        block["topic_id"] = base64.urlsafe_b64encode(block["topic_id"]).rstrip(b"=").decode()
        block["compression"] = CODECS[block["compression"]]
        block["offset"] = at
        need(block == listed, f"the block at {at} is not the one that the footer lists")
        stored = data[at + 128 : at + 128 + block["stored_len"]]
        need(zlib.crc32(stored) == block["stored_crc32"], f"the stored bytes of the block at {at}")
        raw = codecs.decompress(block["compression"], stored)
        need(len(raw) == block["raw_len"], f"the length of the block at {at}")
        return raw

    def batches(self, extent):
        data, blocks = self.pack(extent["pack"])
        at, end = extent["offset"], extent["offset"] + extent["length"]
        while at < end:
            yield from batches.batches(self.block(data, at, blocks[at]))
            at += 128 + blocks[at]["stored_len"]
        need(at == end, "an extent that ends within a block")


def show(value):
    """Bytes as text where they are UTF-8; null stays null."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


EVIDENCE = ["base_offset", "last_offset", "leader_epoch", "crc32c", "max_timestamp"]


def prove_ends(topic, partition, reached):
    """The batches at both ends are those that the manifest tells of, where it does."""
    for name, batch in zip(["first_batch", "last_batch"], reached):
        told = partition.get(name)
        found = batch and {field: batch[field] for field in EVIDENCE}
        need(told in (None, found), f"{name} of {topic['topic']}-{partition['partition']}")


def dump_topic(repository, topic):
    extents = repository.extents(topic["index"])
    for partition in topic["partitions"]:
        start, end = partition["start_offset"], partition["end_offset"]
        first = last = None
        for extent in extents.get(partition["partition"], []):
            for batch, records in repository.batches(extent):
                if batch["last_offset"] >= start and batch["base_offset"] < end:
                    first, last = first or batch, batch
                for offset, timestamp, key, value, headers in records:
                    if not start <= offset < end:
                        continue
                    line = {"topic": topic["topic"], "partition": partition["partition"], "offset": offset}
                    line["timestamp"] = timestamp
                    if batch["transactional"]:
                        line["producer_id"] = batch["producer_id"]
                    if batch["control"]:
                        kind = struct.unpack(">hh", key[:4])[1]
                        line["control"] = {0: "abort", 1: "commit"}.get(kind, kind)
                    else:
                        line |= {"key": show(key), "value": show(value)}
                        line["headers"] = [[show(key), show(value)] for key, value in headers]
                    yield line
        prove_ends(topic, partition, [first, last])


def list_backups(repository):
    for backup_id in repository.backups():
        manifest = repository.manifest(backup_id)
        topics = manifest.pop("topics")
        groups = manifest.pop("groups", None)
        repository.prove_previous(manifest)
        yield manifest
        if groups is not None:
            yield {"backup_id": backup_id} | repository.named_json("states", groups)
        for topic in topics:
            partitions = topic.pop("partitions")
            topic["configuration"] = repository.named_json("states", topic["configuration"])
            yield {"backup_id": backup_id} | topic
            for partition in partitions:
                yield {"backup_id": backup_id, "topic": topic["topic"]} | partition
    for _, backup in sorted(repository.expired()[0].items()):
        yield {"expired": backup}


def main(arguments):
    match arguments:
        case ["list", path]:
            lines = list_backups(Repository(path))
        case ["dump", path, *backup_id] if len(backup_id) <= 1:
            repository = Repository(path)
            manifest = repository.manifest(*(backup_id or repository.backups()[-1:]))
            lines = (line for topic in manifest["topics"] for line in dump_topic(repository, topic))
        case _:
            raise SystemExit(__doc__)
    for line in lines:
        print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
