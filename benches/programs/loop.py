"""A loop over objects, dictionaries and numbers."""
import sys


class Counter:
    def __init__(self, value):
        self.value = value

    def step(self):
        self.value = (self.value * 1103515245 + 12345) % 2147483648
        return self.value


counter = Counter(1)
total = 0
seen = {}
for i in range(int(sys.argv[1])):
    total += counter.step() % 1000
    seen[i % 777] = seen.get(i % 777, 0) + 1
print(total, len(seen), sorted(str(x) for x in seen.values())[:3])
