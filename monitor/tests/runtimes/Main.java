import java.io.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;

public class Main {
    sealed interface Shape permits Circle, Square {}
    record Circle(double radius) implements Shape {}
    record Square(double side) implements Shape {}

    static double area(Shape shape) {
        if (shape instanceof Circle c) return Math.PI * c.radius() * c.radius();
        return shape instanceof Square s ? s.side() * s.side() : 0;
    }

    static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

    static long mix(long x) { x ^= x >>> 33; x *= 0xff51afd7ed558ccdL; return x ^ x >>> 29; }

    public static void main(String[] arguments) throws Exception {
        System.out.println(fib(27) + " " + area(new Circle(2)) + " " + area(new Square(3)));
        long sum = 0;
        for (int i = 0; i < 3_000_000; i++) sum = mix(sum + i);
        System.out.println(Long.toHexString(sum));
        System.out.println(IntStream.range(0, 100000).parallel().filter(i -> i % 7 == 0).mapToLong(i -> (long) i * i).sum());
        System.out.println(Stream.of("the quick brown fox".split(" ")).collect(Collectors.groupingBy(String::length, TreeMap::new, Collectors.joining("+"))));
        threads();
        faults();
        world(arguments);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
        System.err.println("to standard error");
        System.exit(7);
    }

    static void threads() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        ConcurrentHashMap<Integer, LongAdder> counts = new ConcurrentHashMap<>();
        List<Future<Integer>> futures = new ArrayList<>();
        for (int t = 0; t < 8; t++) {
            int seed = t;
            futures.add(pool.submit(() -> {
                Random random = new Random(seed);
                List<byte[]> kept = new LinkedList<>();
                for (int i = 0; i < 5000; i++) {
                    counts.computeIfAbsent(random.nextInt(100), k -> new LongAdder()).increment();
                    kept.add(new byte[random.nextInt(2000)]);
                    if (kept.size() > 500) kept.remove(0);
                }
                return kept.size();
            }));
        }
        int total = 0;
        for (Future<Integer> future : futures) total += future.get();
        System.out.println(total + " " + counts.values().stream().mapToLong(LongAdder::sum).sum());
        pool.shutdown();
        System.out.println(pool.awaitTermination(20, TimeUnit.SECONDS));
        Object lock = new Object();
        int[] turn = {0};
        Thread[] players = new Thread[3];
        for (int p = 0; p < 3; p++) {
            int me = p;
            players[p] = new Thread(() -> {
                for (int round = 0; round < 100; round++) synchronized (lock) {
                    try { while (turn[0] % 3 != me) lock.wait(); } catch (InterruptedException e) { return; }
                    turn[0]++;
                    lock.notifyAll();
                }
            });
            players[p].start();
        }
        for (Thread player : players) player.join();
        System.out.println(turn[0]);
        Thread sleeper = new Thread(() -> { try { Thread.sleep(100000); } catch (InterruptedException e) { System.out.println("interrupted"); } });
        sleeper.start(); sleeper.interrupt(); sleeper.join();
        AtomicBoolean stop = new AtomicBoolean();
        Thread spinner = new Thread(() -> { while (!stop.get()) { } System.out.println("stopped"); });
        spinner.start(); System.gc(); stop.set(true); spinner.join();
    }

    static int nulls(String s) { return s.length(); }
    static int divide(int a, int b) { return a / b; }
    static int deep(int n) { return deep(n + 1) + 1; }

    static void faults() {
        int caught = 0;
        for (int i = 0; i < 20000; i++) {
            try { caught += nulls(i % 100 == 0 ? null : "x"); } catch (NullPointerException e) { caught += 1000; }
            try { caught += divide(i, i % 50 == 0 ? 0 : 7) & 1; } catch (ArithmeticException e) { caught += 1000; }
        }
        System.out.println(caught);
        try { deep(0); } catch (StackOverflowError e) { System.out.println("overflow"); }
        try { Object o = "x"; System.out.println((Integer) o); } catch (ClassCastException e) { System.out.println("cast"); }
        try { List<long[]> all = new ArrayList<>(); for (;;) all.add(new long[1 << 20]); } catch (OutOfMemoryError e) { System.out.println("out of memory"); }
    }

    static void world(String[] arguments) throws Exception {
        Path path = Path.of("file");
        Files.write(path, Collections.nCopies(1000, "line"));
        try (FileChannel channel = FileChannel.open(path)) {
            MappedByteBuffer map = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size());
            System.out.println(channel.size() + " " + (char) map.get(5) + " " + Files.readAllLines(path).size());
        }
        try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
            UnixDomainSocketAddress address = UnixDomainSocketAddress.of("socket");
            server.bind(address);
            Thread client = new Thread(() -> {
                try (SocketChannel channel = SocketChannel.open(address)) { channel.write(ByteBuffer.wrap("through a socket".getBytes())); } catch (IOException e) { e.printStackTrace(); }
            });
            client.start();
            ByteBuffer buffer = ByteBuffer.allocate(100);
            try (SocketChannel peer = server.accept()) { while (peer.read(buffer) >= 0) { } }
            client.join();
            System.out.println(new String(buffer.array(), 0, buffer.position()));
        }
        Process process = new ProcessBuilder("sh", "-c", "read x; echo \"<$x>\"; exit 3").start();
        try (Writer writer = process.outputWriter()) { writer.write("in\n"); }
        System.out.println(new String(process.getInputStream().readAllBytes()).strip() + process.waitFor());
        System.out.println(arguments.length + " " + String.join(",", arguments) + " " + System.getProperty("user.dir").endsWith("here"));
    }
}
