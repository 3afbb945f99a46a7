"""JSON out and in, regular expressions, sorting."""
import json
import re
import sys

for n in range(int(sys.argv[1])):
    data = [{"id": i, "name": "n%d" % (i * 7919 % 1009), "v": i / 7, "deep": [[i] * 3, None]} for i in range(400)]
    text = json.dumps(data, sort_keys=True)
    back = json.loads(text)
    found = re.findall(r'"name": "n(\d+)", "v": (\d+)', text)
    words = sorted(re.sub(r"[^a-z0-9]+", " ", text).split(), key=lambda w: (len(w), w))
print(len(text), back == data, len(found), words[-1])
