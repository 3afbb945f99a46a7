// Exceptions across frames, destructors, rethrowing, virtual calls, casts at run time, function objects, containers.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <unordered_map>
#include <vector>

struct Noisy {
    std::string name;
    explicit Noisy(std::string n) : name(std::move(n)) { std::cout << "+" << name << ' '; }
    ~Noisy() { std::cout << "-" << name << ' '; }
};

struct Shape {
    virtual ~Shape() = default;
    virtual double area() const = 0;
    virtual std::string name() const { return "shape"; }
};
struct Named { virtual std::string nickname() const { return "none"; } virtual ~Named() = default; };
struct Square : Shape {
    double side;
    explicit Square(double s) : side(s) {}
    double area() const override { return side * side; }
    std::string name() const override { return "square"; }
};
struct Circle : Shape, virtual Named {
    double radius;
    explicit Circle(double r) : radius(r) {}
    double area() const override { return 3.14159265358979 * radius * radius; }
    std::string nickname() const override { return "round"; }
};

[[gnu::noinline]] static void thrower(int depth, int kind)
{
    Noisy guard("g" + std::to_string(depth));
    if (depth == 0) {
        switch (kind) {
        case 0: throw std::runtime_error("runtime");
        case 1: throw 42;
        case 2: throw std::string("a string");
        case 3: std::vector<int>(3).at(7); break;
        default: throw std::make_unique<Square>(3);
        }
    }
    try {
        thrower(depth - 1, kind);
    } catch (const std::runtime_error &e) {
        std::cout << "[passing " << e.what() << "] ";
        throw;
    }
}

static int at_depth(int n)
{
    if (n == 0)
        throw n;
    try {
        return at_depth(n - 1);
    } catch (int x) {
        throw x + n;
    }
}

int main()
{
    for (int kind = 0; kind < 5; kind++) {
        try {
            thrower(3, kind);
        } catch (const std::exception &e) {
            std::cout << "exception " << e.what() << '\n';
        } catch (int n) {
            std::cout << "int " << n << '\n';
        } catch (const std::string &s) {
            std::cout << "string " << s << '\n';
        } catch (...) {
            std::cout << "something\n";
        }
    }
    long total = 0;
    for (int i = 0; i < 2000; i++) {
        try {
            at_depth(i % 20);
        } catch (int n) {
            total += n;
        }
    }
    std::cout << total << '\n';
    std::vector<std::unique_ptr<Shape>> shapes;
    for (int i = 0; i < 1000; i++) {
        if (i % 3) shapes.push_back(std::make_unique<Square>(i));
        else shapes.push_back(std::make_unique<Circle>(i));
    }
    double area = 0;
    int named = 0;
    for (int round = 0; round < 100; round++)
        for (auto &shape : shapes) {
            area += shape->area();
            if (auto *n = dynamic_cast<Named *>(shape.get())) named += n->nickname().size();
        }
    std::cout.precision(17);
    std::cout << area << ' ' << named << ' ' << typeid(*shapes[0]).name() << ' ' << shapes[1]->name() << '\n';
    try {
        (void)dynamic_cast<const Square &>(*shapes[0]);
    } catch (const std::bad_cast &e) {
        std::cout << e.what() << '\n';
    }
    std::vector<std::function<int(int)>> functions;
    for (int i = 0; i < 10; i++)
        functions.emplace_back([i](int x) { return x * i + 1; });
    int value = 1;
    for (int i = 0; i < 1000; i++)
        value = functions[i % 10](value) % 1000003;
    std::map<std::string, int> words;
    std::unordered_map<int, std::string> back;
    std::istringstream text("the quick brown fox jumps over the lazy dog and the cat");
    for (std::string word; text >> word;) back[++words[word] * 100 + static_cast<int>(word.size())] = word;
    for (auto &[word, count] : words) std::cout << word << '=' << count << ' ';
    std::cout << value << ' ' << back.size() << '\n';
    static thread_local std::string late = "thread local";
    std::cout << late << '\n';
    try {
        std::stoi("not a number");
    } catch (const std::invalid_argument &e) {
        std::cout << e.what() << std::endl;
    }
    throw std::logic_error("nobody catches this");
}
