#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "net/net.h"
#include "test/check.h"

namespace {

bool ready(int fd, short events) {
  pollfd one{fd, events, 0};
  return ::poll(&one, 1, 2000) == 1;
}

void converse(int listener, int client) {
  CHECK(client >= 0);
  CHECK(ready(listener, POLLIN));
  const int server = net::accept(listener);
  CHECK(server >= 0);
  CHECK(net::accept(listener) == -EAGAIN);
  CHECK((::fcntl(server, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(server, F_GETFL) & O_NONBLOCK) != 0);
  CHECK(ready(client, POLLOUT));
  CHECK(net::connect_error(client) == 0);
  CHECK(::send(client, "hello", 5, MSG_NOSIGNAL) == 5);
  char text[8];
  CHECK(ready(server, POLLIN));
  CHECK(::recv(server, text, sizeof text, 0) == 5);
  // Whoever is given it by another process finds it as it is.
  CHECK(::fcntl(server, F_SETFL, 0) == 0 && ::fcntl(server, F_SETFD, 0) == 0);
  CHECK(net::adopt_stream(server) == server);
  CHECK((::fcntl(server, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(server, F_GETFL) & O_NONBLOCK) != 0);
  CHECK(net::adopt_stream(listener) == -EINVAL);
  CHECK(net::adopt_listener(server) == -EINVAL);
  ::close(client);
  ::close(server);
}

void tcp(const char* host, const std::string& prefix) {
  const int listener = net::listen_tcp(host, 0);
  CHECK(listener >= 0);
  const std::string name = net::local_name(listener);
  CHECK(name.starts_with(prefix));
  const int port = std::atoi(name.substr(prefix.size()).c_str());
  CHECK(port > 0);
  CHECK(net::listen_tcp(host, port) == -EADDRINUSE);
  const int client = net::connect_tcp(host, port);
  CHECK(client >= 0 && ready(client, POLLOUT));
  CHECK(net::peer_name(client) == name);
  converse(listener, client);
  ::close(listener);
  const int refused = net::connect_tcp(host, port);  // at once, or when it is asked
  CHECK(refused == -ECONNREFUSED || (ready(refused, POLLOUT) && net::connect_error(refused) == -ECONNREFUSED));
  if (refused >= 0) ::close(refused);
}

}  // namespace

int main() {
  tcp("127.0.0.1", "127.0.0.1:");
  tcp("::1", "[::1]:");
  CHECK(net::listen_tcp("localhost", 0) == -EINVAL);
  CHECK(net::listen_tcp("127.0.0.1", 70000) == -EINVAL);
  CHECK(net::listen_tcp("127.0.0.1", -1) == -EINVAL);
  CHECK(net::connect_tcp("", 1) == -EINVAL);

  char directory[] = "/tmp/trivet-net-XXXXXX";
  CHECK(::mkdtemp(directory) != nullptr);
  const std::string path = std::string(directory) + "/a.sock";
  int listener = net::listen_unix(path.c_str(), 0600);
  CHECK(listener >= 0);
  struct stat status {};
  CHECK(::stat(path.c_str(), &status) == 0 && (status.st_mode & 0777) == 0600);
  CHECK(net::listen_unix(path.c_str(), 0600) == -EADDRINUSE);  // somebody answers
  ::close(net::accept(listener));                              // who asked
  const int client = net::connect_unix(path.c_str());
  CHECK(net::peer_name(client) == "unix:" + path);
  converse(listener, client);
  ::close(listener);
  listener = net::listen_unix(path.c_str(), 0666);  // stale now: replaced
  CHECK(listener >= 0);
  CHECK(::stat(path.c_str(), &status) == 0 && (status.st_mode & 0777) == 0666);
  const int peer = net::connect_unix(path.c_str());
  const int server = net::accept(listener);
  CHECK(net::peer_name(server) == "unix:pid " + std::to_string(::getpid()));
  ::close(peer);
  ::close(server);
  CHECK(net::adopt_listener(listener) == listener);
  ::close(listener);
  ::unlink(path.c_str());

  const int file = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  CHECK(net::listen_unix(path.c_str(), 0600) == -EEXIST);  // no socket: not ours to remove
  CHECK(net::adopt_listener(file) < 0);
  ::close(file);
  ::unlink(path.c_str());
  ::rmdir(directory);
  CHECK(net::listen_unix((std::string("/tmp/") + std::string(103, 'x')).c_str(), 0600) == -ENAMETOOLONG);
  CHECK(net::connect_unix("") == -EINVAL);
  CHECK(net::peer_name(-1).empty());

  const int datagram = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK(net::adopt_listener(datagram) == -EINVAL);
  ::close(datagram);
  const int idle = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(net::adopt_listener(idle) == -EINVAL);
  CHECK(net::adopt_stream(idle) == -ENOTCONN);
  CHECK(net::adopt_stream(-1) == -EBADF);
  ::close(idle);
  return 0;
}
