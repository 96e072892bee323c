// What XRT's sw_emu shim (XRT 2.13) and the emulated card say to each other on their socket: a header, then a protobuf
// message. Only what is used of protobuf is here: varints and byte strings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace bertile {

enum class Call : uint32_t {
  kClose = 1,
  kLoad = 3,
  kAllocate = 4,
  kFree = 5,
  kCopyIn = 6,
  kCopyOut = 7,
  kWriteControl = 9,
  kReadControl = 11,
  kWriteRegister = 51,
  kReadRegister = 52,
};

const size_t kRequestHeaderBytes = 14;
const size_t kReplyHeaderBytes = 9;
const uint8_t kGone = 0xff;  // every byte that is read from a PCIe slot whose card does not answer

struct RequestHeader {
  uint64_t bytes;  // of the message
  Call call;
};

RequestHeader DecodeRequestHeader(const uint8_t* header);
void EncodeReplyHeader(uint64_t bytes, uint8_t* header);

struct Field {
  uint32_t number;
  uint64_t value;       // of a number
  const uint8_t* data;  // of a string, as far as the message has been received
  uint64_t bytes;
};

// The fields of a message, of which the first `received` bytes are there, in their order.
class FieldReader {
 public:
  FieldReader(const uint8_t* message, size_t received) : next_(message), end_(message + received) {}
  bool Next(Field& field);

 private:
  bool Varint(uint64_t& value);

  const uint8_t* next_;
  const uint8_t* end_;
};

// A field of a message; 0 or nothing when it is not there. The beginning of a message is enough for a length.
uint64_t NumberOf(const std::string& message, uint32_t field);
uint64_t LengthOf(const std::string& message, uint32_t field);
std::string BytesOf(const std::string& message, uint32_t field);

// Replies without their header. A reply with data ends with it: these are the bytes in front.
std::string EncodeReply(uint64_t value);
std::string EncodeDataReply(uint64_t value, uint64_t data_bytes);

// The first field of a reply to `call` that succeeded on `bytes` bytes; and how many bytes of data `message` asks for.
uint64_t ReplyValue(Call call, uint64_t bytes);
uint64_t DataAsked(Call call, const std::string& message);

// The whole message with which a slot answers when its card is gone: writes succeed, reads give all ones.
std::string EncodeGoneReply(Call call, const std::string& message);

}  // namespace bertile
