"""Makes the tables of this folder; see README.md."""

import struct

FOLDER = "shared/codec/data/"
# Code points from here on follow a rule (0900) or share one weight (the others).
LIMIT = {"utf8mb4_0900_ai_ci": 0x2CEA1}


def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def table(name):
    out, at = b"", 0
    for line in open(f"tests/golden/collation/{name}.tsv", encoding="utf-8"):
        span, op, key = line.rstrip("\n").split("\t")
        first, _, last = span.partition("-")
        first, last = int(first, 16), int(last or first, 16)
        if first >= LIMIT.get(name, 0x10000):
            break
        last = min(last, LIMIT.get(name, 0x10000) - 1)
        key = bytes.fromhex(key)
        if first > at:  # Surrogates have no line.
            out += varint((first - at) << 1) + varint(0)
        out += varint((last - first + 1) << 1 | (op == "+")) + varint(len(key)) + key
        at = last + 1
    open(f"{FOLDER}{name}.bin", "wb").write(out)
    print(name, len(out))


def gb18030():
    trails = list(range(0x40, 0x7F)) + list(range(0x80, 0xFF))
    codes = [bytes([lead, trail]) for lead in range(0x81, 0xFF) for trail in trails]
    points = [ord(code.decode("gb18030")) for code in codes]
    open(f"{FOLDER}gb18030.bin", "wb").write(struct.pack(f"<{len(points)}H", *points))
    print("gb18030", len(points) * 2)


for collation in ("utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_0900_ai_ci", "gbk_chinese_ci"):
    table(collation)
gb18030()
