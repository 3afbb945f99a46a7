// Virtual calls on a mixture of classes, and a map and strings from the standard library.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct Shape {
    virtual ~Shape() = default;
    virtual long grow(long by) = 0;
    virtual long area() const = 0;
};
struct Square final : Shape {
    long side = 1;
    long grow(long by) override { return side = (side + by) & 0xff; }
    long area() const override { return side * side; }
};
struct Box final : Shape {
    long width = 2, height = 3;
    long grow(long by) override { return width = (width * 3 + by) & 0x7f; }
    long area() const override { return width * height; }
};
struct Line final : Shape {
    long grow(long by) override { return by; }
    long area() const override { return 0; }
};

static long virtual_calls(long scale)
{
    std::vector<std::unique_ptr<Shape>> shapes;
    for (int i = 0; i < 1000; i++) {
        if (i * 7 % 5 == 0) shapes.push_back(std::make_unique<Line>());
        else if (i % 2) shapes.push_back(std::make_unique<Square>());
        else shapes.push_back(std::make_unique<Box>());
    }
    long total = 0;
    for (long round = 0; round < scale * 1000; round++)
        for (auto &shape : shapes) total += shape->grow(round) + shape->area();
    return total;
}

static long containers(long scale)
{
    std::map<std::string, long> words;
    unsigned long x = 12345;
    long total = 0;
    for (long i = 0; i < scale * 40000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        std::string key = "key" + std::to_string(x >> 52);
        total += ++words[key];
        if (i % 64 == 0) words.erase(key);
    }
    return total + static_cast<long>(words.size());
}

static long exceptions(long scale)
{
    long total = 0;
    for (long i = 0; i < scale * 5000; i++) {
        try {
            std::string guard(i % 40, 'x');
            if (i % 3) throw i;
            total += static_cast<long>(guard.size());
        } catch (long value) {
            total += value & 7;
        }
    }
    return total;
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    long scale = std::atol(argv[2]);
    long result = !std::strcmp(argv[1], "virtual") ? virtual_calls(scale)
                  : !std::strcmp(argv[1], "containers") ? containers(scale) : exceptions(scale);
    std::printf("%ld\n", result);
}
