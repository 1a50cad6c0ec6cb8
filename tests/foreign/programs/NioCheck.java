// Java's ways to a socket, each byte checked: NioCheck server PORT, NioCheck client PORT. The server is
// a Selector; the clients use channels, streams, selectors and asynchronous channels, and the ways to
// end a read that waits. What is printed does not depend on time.
import java.io.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;

public class NioCheck {
  static int port;

  public static void main(String[] arguments) throws Exception {
    port = Integer.parseInt(arguments[1]);
    if (arguments[0].equals("server")) {
      serve();
      return;
    }
    System.out.println("blocking channel " + blockingChannel());
    System.out.println("streams " + streams());
    System.out.println("selector " + selector());
    System.out.println("asynchronous " + asynchronous());
    System.out.println("file transfer " + fileTransfer());
    System.out.println("gathered " + gathered());
    System.out.println("closed in a read: channel " + closedChannel());
    System.out.println("closed in a read: socket " + closedSocket());
    System.out.println("interrupted in a read " + interrupted());
    System.out.println("time-out " + timeOut());
    System.out.println("crowd " + crowd());
    if (arguments.length > 2) end();
  }

  static byte byteOf(long at) { return (byte) ((at * 2654435761L) >>> 13); }

  static byte[] bytes(long from, int length) {
    byte[] made = new byte[length];
    for (int i = 0; i < length; ++i) made[i] = byteOf(from + i);
    return made;
  }

  // The server: an echo for every connection, written when the socket takes it. A first byte 'q' ends it.
  static void serve() throws IOException {
    Selector selector = Selector.open();
    ServerSocketChannel listener = ServerSocketChannel.open();
    listener.bind(new InetSocketAddress("127.0.0.1", port));
    listener.configureBlocking(false);
    listener.register(selector, SelectionKey.OP_ACCEPT);
    while (true) {
      selector.select();
      Iterator<SelectionKey> keys = selector.selectedKeys().iterator();
      while (keys.hasNext()) {
        SelectionKey key = keys.next();
        keys.remove();
        if (key.isAcceptable()) {
          SocketChannel accepted = listener.accept();
          if (accepted == null) continue;
          accepted.configureBlocking(false);
          ByteBuffer fresh = ByteBuffer.allocateDirect(100000).limit(0);
          accepted.register(selector, SelectionKey.OP_READ, fresh);
          continue;
        }
        if (echo(key)) return;
      }
    }
  }

  static boolean echo(SelectionKey key) {
    SocketChannel channel = (SocketChannel) key.channel();
    ByteBuffer buffer = (ByteBuffer) key.attachment();
    try {
      if (key.isReadable()) {
        buffer.clear();
        int count = channel.read(buffer);
        buffer.flip();
        if (count < 0) {
          channel.close();
          return false;
        }
        if (count == 1 && buffer.get(0) == 'q') return true;
      }
      channel.write(buffer);
      key.interestOps(buffer.hasRemaining() ? SelectionKey.OP_WRITE : SelectionKey.OP_READ);
    } catch (IOException | CancelledKeyException gone) {
      try {
        channel.close();
      } catch (IOException ignored) {
      }
    }
    return false;
  }

  static SocketChannel connect() throws IOException {
    return SocketChannel.open(new InetSocketAddress("127.0.0.1", port));
  }

  static boolean equal(ByteBuffer got, long from) {
    for (int i = 0; i < got.limit(); ++i)
      if (got.get(i) != byteOf(from + i)) return false;
    return true;
  }

  static boolean blockingChannel() throws IOException {
    try (SocketChannel channel = connect()) {
      ByteBuffer in = ByteBuffer.allocateDirect(70000);
      long at = 0;
      for (int round = 0; round < 2000; ++round) {
        int length = round * 97 % 70000 + 2;
        ByteBuffer out = ByteBuffer.wrap(bytes(at, length));
        while (out.hasRemaining()) channel.write(out);
        in.clear().limit(length);
        while (in.hasRemaining())
          if (channel.read(in) < 0) return false;
        if (!equal(in, at)) return false;
        at += length;
      }
      channel.shutdownOutput();
      return channel.read(in.clear()) == -1;
    }
  }

  static boolean streams() throws Exception {
    try (Socket socket = new Socket("127.0.0.1", port)) {
      byte[] all = bytes(7, 20_000_000);
      Thread writer = new Thread(() -> {
        try {
          OutputStream out = new BufferedOutputStream(socket.getOutputStream(), 30000);
          for (int at = 0; at < all.length; at += 12345) out.write(all, at, Math.min(12345, all.length - at));
          out.flush();
          socket.shutdownOutput();
        } catch (IOException failed) {
          failed.printStackTrace();
        }
      });
      writer.start();
      byte[] got = socket.getInputStream().readAllBytes();
      writer.join();
      return Arrays.equals(all, got);
    }
  }

  // Forty connections of one Selector, each with its own place in the stream.
  static boolean selector() throws IOException {
    final long each = 400_000;
    Selector selector = Selector.open();
    for (int i = 0; i < 40; ++i) {
      SocketChannel channel = SocketChannel.open();
      channel.configureBlocking(false);
      channel.connect(new InetSocketAddress("127.0.0.1", port));
      channel.register(selector, SelectionKey.OP_CONNECT, new long[] {0, 0, i});
    }
    ByteBuffer in = ByteBuffer.allocateDirect(30000);
    int open = 40;
    while (open > 0) {
      selector.select();
      for (SelectionKey key : selector.selectedKeys()) {
        SocketChannel channel = (SocketChannel) key.channel();
        long[] place = (long[]) key.attachment();
        if (key.isConnectable() && channel.finishConnect()) key.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
        if (key.isWritable()) {
          place[0] += channel.write(ByteBuffer.wrap(bytes(place[0] + place[2], (int) Math.min(8000, each - place[0]))));
          if (place[0] == each) {
            key.interestOps(SelectionKey.OP_READ);
            channel.shutdownOutput();
          }
        }
        if (key.isReadable()) {
          int count = channel.read(in.clear());
          if (count < 0) {
            if (place[1] != each) return false;
            channel.close();
            --open;
            continue;
          }
          if (!equal(in.flip(), place[1] + place[2])) return false;
          place[1] += count;
        }
      }
      selector.selectedKeys().clear();
    }
    selector.close();
    return true;
  }

  static boolean asynchronous() throws Exception {
    try (AsynchronousSocketChannel channel = AsynchronousSocketChannel.open()) {
      channel.connect(new InetSocketAddress("127.0.0.1", port)).get();
      long at = 0;
      for (int round = 0; round < 1000; ++round) {
        int length = round * 31 % 20000 + 2;
        ByteBuffer out = ByteBuffer.wrap(bytes(at, length)), in = ByteBuffer.allocate(length);
        while (out.hasRemaining()) channel.write(out).get();
        while (in.hasRemaining())
          if (channel.read(in).get() < 0) return false;
        if (!equal(in, at)) return false;
        at += length;
      }
      return true;
    }
  }

  static boolean fileTransfer() throws Exception {
    Path path = Files.createTempFile("nio", "check");
    Files.write(path, bytes(3, 6_000_000));
    try (SocketChannel channel = connect(); FileChannel file = FileChannel.open(path, StandardOpenOption.READ)) {
      Thread sender = new Thread(() -> {
        try {
          for (long at = 0; at < file.size();) at += file.transferTo(at, file.size() - at, channel);
          channel.shutdownOutput();
        } catch (IOException failed) {
          failed.printStackTrace();
        }
      });
      sender.start();
      Path back = Files.createTempFile("nio", "back");
      try (FileChannel out = FileChannel.open(back, StandardOpenOption.WRITE)) {
        long at = 0, count;
        while ((count = out.transferFrom(channel, at, 100000)) > 0) at += count;
      }
      sender.join();
      boolean same = Files.mismatch(path, back) == -1;
      Files.delete(back);
      return same;
    } finally {
      Files.delete(path);
    }
  }

  static boolean gathered() throws IOException {
    try (SocketChannel channel = connect()) {
      long at = 0;
      for (int round = 0; round < 300; ++round) {
        ByteBuffer[] out = new ByteBuffer[9], in = new ByteBuffer[5];
        int total = 0;
        for (int i = 0; i < 9; ++i) {
          out[i] = ByteBuffer.wrap(bytes(at + total, i * round + 1));
          total += i * round + 1;
        }
        for (int i = 0; i < 4; ++i) in[i] = ByteBuffer.allocate(total / 5);
        in[4] = ByteBuffer.allocate(total - 4 * (total / 5));
        while (out[8].hasRemaining()) channel.write(out);
        while (in[4].hasRemaining())
          if (channel.read(in) < 0) return false;
        for (ByteBuffer part : in) {
          if (!equal(part.flip(), at)) return false;
          at += part.limit();
        }
      }
      return true;
    }
  }

  interface Reader {
    void read() throws Exception;
  }

  // What a thread that waits in a read gets when `disturb` is done to it. The connection has been busy before.
  static String disturbed(Reader reader, java.util.function.Consumer<Thread> disturb) throws Exception {
    CompletableFuture<String> result = new CompletableFuture<>();
    Thread waiting = new Thread(() -> {
      try {
        reader.read();
        result.complete("nothing");
      } catch (Exception got) {
        result.complete(got.getClass().getSimpleName());
      }
    });
    waiting.start();
    Thread.sleep(300);
    if (result.isDone()) return "did not wait: " + result.get();
    disturb.accept(waiting);
    return result.get(20, TimeUnit.SECONDS);
  }

  static void busy(SocketChannel channel) throws IOException {
    ByteBuffer in = ByteBuffer.allocate(100);
    for (int i = 0; i < 200; ++i) {
      channel.write(ByteBuffer.wrap(bytes(i, 100)));
      in.clear();
      while (in.hasRemaining()) channel.read(in);
    }
  }

  static String closedChannel() throws Exception {
    SocketChannel channel = connect();
    busy(channel);
    return disturbed(() -> channel.read(ByteBuffer.allocate(10)), thread -> closeQuietly(channel));
  }

  static String closedSocket() throws Exception {
    Socket socket = new Socket("127.0.0.1", port);
    for (int i = 0; i < 200; ++i) {
      socket.getOutputStream().write(bytes(i, 100));
      if (socket.getInputStream().readNBytes(100).length != 100) return "short";
    }
    return disturbed(() -> socket.getInputStream().read(), thread -> closeQuietly(socket));
  }

  static String interrupted() throws Exception {
    SocketChannel channel = connect();
    busy(channel);
    String got = disturbed(() -> channel.read(ByteBuffer.allocate(10)), Thread::interrupt);
    return got + ", open " + channel.isOpen();
  }

  static String timeOut() throws Exception {
    try (Socket socket = new Socket("127.0.0.1", port)) {
      byte[] out = bytes(0, 100);
      for (int i = 0; i < 200; ++i) {
        socket.getOutputStream().write(out);
        if (socket.getInputStream().readNBytes(100).length != 100) return "short";
      }
      socket.setSoTimeout(150);
      try {
        socket.getInputStream().read();
        return "none";
      } catch (SocketTimeoutException expected) {
        socket.getOutputStream().write(out);
        return "then " + Arrays.equals(out, socket.getInputStream().readNBytes(100)) + " " + socket.getInputStream().available();
      }
    }
  }

  // Threads that share nothing but the machine.
  static int crowd() throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(12);
    List<Future<Boolean>> all = new ArrayList<>();
    for (int i = 0; i < 60; ++i)
      all.add(threads.submit(() -> {
        try (SocketChannel channel = connect()) {
          busy(channel);
          return true;
        }
      }));
    int good = 0;
    for (Future<Boolean> one : all) good += one.get() ? 1 : 0;
    threads.shutdown();
    return good;
  }

  static void closeQuietly(Closeable what) {
    try {
      what.close();
    } catch (IOException ignored) {
    }
  }

  static void end() throws IOException {
    try (SocketChannel channel = connect()) {
      channel.write(ByteBuffer.wrap(new byte[] {'q'}));
    }
  }
}
