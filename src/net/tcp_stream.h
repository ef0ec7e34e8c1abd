// A TCP connection as io::Stream.
//
// TcpConnection is the connection itself: it lives as long as something is under way (a wait of the reactor,
// a flush), on one loop. TcpStream is what the owner holds: when it goes, the handler is detached and the
// connection is closed, at once or, after close(true), when what is queued has been sent.
//
// Reading: the reactor tells when bytes are there; they are then read into a buffer of the loop's pool, so a
// silent connection holds no memory. Sending: everything that was given to send() in a tick is written at its
// end. The handler is called from the loop only, never from inside a method of the stream.
#pragma once

#include <asio/posix/stream_descriptor.hpp>
#include <memory>

#include "io/disk.h"
#include "io/network.h"
#include "net/asio_loop.h"
#include "net/send_queue.h"
#include "net/socket.h"

namespace millrace::net {

class TcpConnection final : public std::enable_shared_from_this<TcpConnection> {
 public:
  /// `disk` reads file regions that are not cached; without one the loop itself does. On the loop.
  TcpConnection(LoopThread& loop, SocketDescriptor socket, io::Disk* disk, int64_t flush_ms_max);

  void send(Payload payload);
  size_t unsent_bytes() const { return queue_.bytes(); }
  void pause_reading();
  void resume_reading();
  void close(bool flush);
  void set_handler(io::StreamHandler* handler);
  /// The owner is gone.
  void abandon();

  const io::Endpoint& peer() const { return peer_; }
  const io::Endpoint& local() const { return local_; }

 private:
  bool can_read() const { return handler_ != nullptr && !paused_ && !closing_ && !peer_closed_ && !dead_; }
  size_t kept() const { return end_ - begin_; }
  void arm_read();
  void on_readable();
  /// Room behind the kept bytes, for what the handler wants and for one read at least.
  void make_room();
  /// Gives the kept bytes to the handler.
  void offer();
  /// Lets go of memory that the kept bytes do not need.
  void tidy();
  void drop_kept();
  void offer_soon();
  void on_peer_closed();

  void schedule_flush();
  void flush();
  void arm_write();
  void start_cold_read();

  /// The end: closes the socket. on_closed is told at once if `now` (from the loop), or posted.
  void finish(Status why, bool now);
  void report();

  LoopThread& loop_;
  asio::posix::stream_descriptor socket_;
  io::Disk* const disk_;
  const int64_t flush_ms_max_;
  bool sendfile_ = true;
  io::Endpoint peer_;
  io::Endpoint local_;
  io::StreamHandler* handler_ = nullptr;

  Buffer buffer_;  // bytes [begin_, end_) are kept for the handler
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t read_hint_;  // bytes to have room for, after what reads brought lately
  SendQueue queue_;
  io::TimerId flush_timer_ = 0;
  Status why_;

  bool paused_ = false;
  bool read_armed_ = false;
  bool write_armed_ = false;
  bool offering_ = false;  // inside on_bytes
  bool offer_posted_ = false;
  bool flush_scheduled_ = false;
  bool reading_cold_ = false;
  bool closing_ = false;      // by us, once the queue is empty
  bool peer_closed_ = false;  // its end of the stream; ours once the queue is empty
  bool dead_ = false;         // the socket is closed
  bool reported_ = false;
};

class TcpStream final : public io::Stream {
 public:
  explicit TcpStream(std::shared_ptr<TcpConnection> connection) : connection_(std::move(connection)) {}
  ~TcpStream() override { connection_->abandon(); }

  void send(Payload payload) override { connection_->send(std::move(payload)); }
  size_t unsent_bytes() const override { return connection_->unsent_bytes(); }
  void pause_reading() override { connection_->pause_reading(); }
  void resume_reading() override { connection_->resume_reading(); }
  void close(bool flush) override { connection_->close(flush); }
  void set_handler(io::StreamHandler* handler) override { connection_->set_handler(handler); }
  io::Endpoint peer() const override { return connection_->peer(); }
  io::Endpoint local() const override { return connection_->local(); }

 private:
  const std::shared_ptr<TcpConnection> connection_;
};

}  // namespace millrace::net
