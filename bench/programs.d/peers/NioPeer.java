// An echo server on a Selector, and a client with several channels on another:
// NioPeer server PORT; NioPeer client PORT SECONDS prints round trips a second.
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Iterator;

public class NioPeer {
  static final int CHANNELS = 8;
  static final int SIZE = 64;

  public static void main(String[] arguments) throws IOException {
    InetSocketAddress address = new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[1]));
    if (arguments[0].equals("server")) {
      serve(address);
    } else {
      ask(address, Double.parseDouble(arguments[2]));
    }
  }

  static void watch(SocketChannel channel, Selector selector) throws IOException {
    channel.configureBlocking(false);
    channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
    channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(SIZE));
  }

  // Whether a whole message has come; it is in the buffer, ready to be written.
  static boolean whole(SocketChannel channel, ByteBuffer buffer) throws IOException {
    if (channel.read(buffer) < 0) {
      channel.close();
      return false;
    }
    if (buffer.hasRemaining()) return false;
    buffer.flip();
    return true;
  }

  static void write(SocketChannel channel, ByteBuffer buffer) throws IOException {
    while (buffer.hasRemaining()) channel.write(buffer);
    buffer.clear();
  }

  static void serve(InetSocketAddress address) throws IOException {
    Selector selector = Selector.open();
    ServerSocketChannel listener = ServerSocketChannel.open().bind(address);
    listener.configureBlocking(false);
    listener.register(selector, SelectionKey.OP_ACCEPT);
    while (true) {
      selector.select();
      for (Iterator<SelectionKey> keys = selector.selectedKeys().iterator(); keys.hasNext(); ) {
        SelectionKey key = keys.next();
        keys.remove();
        if (key.isAcceptable()) {
          watch(listener.accept(), selector);
          continue;
        }
        SocketChannel channel = (SocketChannel) key.channel();
        ByteBuffer buffer = (ByteBuffer) key.attachment();
        if (whole(channel, buffer)) write(channel, buffer);
      }
    }
  }

  static void ask(InetSocketAddress address, double seconds) throws IOException {
    Selector selector = Selector.open();
    for (int i = 0; i < CHANNELS; i++) {
      SocketChannel channel = SocketChannel.open(address);
      watch(channel, selector);
      write(channel, ByteBuffer.allocateDirect(SIZE));
    }
    long start = System.nanoTime();
    long count = 0;
    while (System.nanoTime() - start < seconds * 1e9) {
      selector.select();
      for (Iterator<SelectionKey> keys = selector.selectedKeys().iterator(); keys.hasNext(); ) {
        SelectionKey key = keys.next();
        keys.remove();
        SocketChannel channel = (SocketChannel) key.channel();
        ByteBuffer buffer = (ByteBuffer) key.attachment();
        if (!whole(channel, buffer)) continue;
        count++;
        write(channel, buffer);
      }
    }
    System.out.printf("figure %.1f%n", count / ((System.nanoTime() - start) / 1e9));
  }
}
