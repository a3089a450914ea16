#include "wire.hpp"

#include <cstring>
#include <type_traits>

namespace paceline::wire {
namespace {

class Writer {
 public:
  template <class T>
  Writer& number(T value) {
    static_assert(std::is_trivially_copyable_v<T>);
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
    return *this;
  }
  Writer& text(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    bytes_.append(value);
    return *this;
  }
  [[nodiscard]] std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

/// Reads past the end give zeros and are remembered; `complete` tells whether all was there and no more.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  T number() {
    T value{};
    if (bytes_.size() < sizeof(T)) {
      failed_ = true;
      return value;
    }
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_.remove_prefix(sizeof(T));
    return value;
  }
  std::string text() {
    const auto length = number<std::uint32_t>();
    if (length > bytes_.size()) {
      failed_ = true;
      return {};
    }
    std::string value(bytes_.substr(0, length));
    bytes_.remove_prefix(length);
    return value;
  }
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] bool complete() const { return !failed_ && bytes_.empty(); }

 private:
  std::string_view bytes_;
  bool failed_ = false;
};

void write(Writer& writer, const Hello& hello) {
  writer.number(hello.generation)
      .number(hello.rank)
      .number(hello.size)
      .text(hello.node_key)
      .text(hello.node_name)
      .text(hello.host)
      .number(hello.port)
      .text(hello.local_socket)
      .number(hello.encrypts)
      .number(hello.own_transport)
      .number(hello.streams);
}

Hello read_hello(Reader& reader) {
  Hello hello;
  hello.generation = reader.number<std::uint64_t>();
  hello.rank = reader.number<std::int32_t>();
  hello.size = reader.number<std::int32_t>();
  hello.node_key = reader.text();
  hello.node_name = reader.text();
  hello.host = reader.text();
  hello.port = reader.number<std::uint16_t>();
  hello.local_socket = reader.text();
  hello.encrypts = reader.number<std::uint8_t>();
  hello.own_transport = reader.number<std::uint8_t>();
  hello.streams = reader.number<std::int32_t>();
  return hello;
}

template <class T>
std::optional<T> if_complete(const Reader& reader, T value) {
  if (!reader.complete()) return std::nullopt;
  return value;
}

}  // namespace

std::string encode(const Hello& hello) {
  Writer writer;
  write(writer, hello);
  return writer.take();
}

std::string encode(const std::vector<Hello>& roster) {
  Writer writer;
  writer.number(static_cast<std::uint32_t>(roster.size()));
  for (const Hello& hello : roster) write(writer, hello);
  return writer.take();
}

std::string encode(const Notice& notice) {
  return Writer().number(notice.code).number(notice.rank).text(notice.message).take();
}

std::string encode(const LinkHello& hello) {
  return Writer().number(hello.generation).number(hello.rank).take();
}

std::string encode(const Goodbye& goodbye) {
  return Writer().number(goodbye.rank).number(goodbye.operations).take();
}

std::optional<Hello> decode_hello(std::string_view bytes) {
  Reader reader(bytes);
  Hello hello = read_hello(reader);
  return if_complete(reader, std::move(hello));
}

std::optional<std::vector<Hello>> decode_roster(std::string_view bytes) {
  Reader reader(bytes);
  const auto count = reader.number<std::uint32_t>();
  std::vector<Hello> roster;
  for (std::uint32_t i = 0; i < count && !reader.failed(); ++i) roster.push_back(read_hello(reader));
  return if_complete(reader, std::move(roster));
}

std::optional<Notice> decode_notice(std::string_view bytes) {
  Reader reader(bytes);
  Notice notice;
  notice.code = reader.number<std::int32_t>();
  notice.rank = reader.number<std::int32_t>();
  notice.message = reader.text();
  return if_complete(reader, std::move(notice));
}

std::optional<LinkHello> decode_link_hello(std::string_view bytes) {
  Reader reader(bytes);
  LinkHello hello;
  hello.generation = reader.number<std::uint64_t>();
  hello.rank = reader.number<std::int32_t>();
  return if_complete(reader, std::move(hello));
}

std::optional<Goodbye> decode_goodbye(std::string_view bytes) {
  Reader reader(bytes);
  Goodbye goodbye;
  goodbye.rank = reader.number<std::int32_t>();
  goodbye.operations = reader.number<std::uint64_t>();
  return if_complete(reader, goodbye);
}

bool same_secret(std::string_view a, std::string_view b) noexcept {
  unsigned char differs = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char other = i < b.size() ? b[i] : '\0';
    differs = static_cast<unsigned char>(differs | (a[i] ^ other));
  }
  return differs == 0;
}

}  // namespace paceline::wire
