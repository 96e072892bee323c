#include "wire.hpp"

#include <cstring>

namespace bertile {

namespace {

// Kinds of fields.
const uint32_t kVarint = 0;
const uint32_t kFixed64 = 1;
const uint32_t kBytes = 2;
const uint32_t kFixed32 = 5;

void AppendVarint(uint64_t value, std::string& message) {
  for (; value >= 0x80; value >>= 7) message.push_back(char(value | 0x80));
  message.push_back(char(value));
}

}  // namespace

RequestHeader DecodeRequestHeader(const uint8_t* header) {
  RequestHeader request;
  uint32_t call;
  std::memcpy(&request.bytes, header + 1, sizeof(request.bytes));
  std::memcpy(&call, header + 10, sizeof(call));
  request.call = Call(call);
  return request;
}

void EncodeReplyHeader(uint64_t bytes, uint8_t* header) {
  header[0] = 1 << 3 | kFixed64;
  std::memcpy(header + 1, &bytes, sizeof(bytes));
}

bool FieldReader::Varint(uint64_t& value) {
  value = 0;
  for (int shift = 0; next_ < end_ && shift < 64; shift += 7) {
    const uint8_t byte = *next_++;
    value |= uint64_t(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool FieldReader::Next(Field& field) {
  uint64_t key;
  if (next_ >= end_ || !Varint(key)) return false;
  field = {uint32_t(key >> 3), 0, nullptr, 0};
  const uint32_t kind = key & 7;
  if (kind == kVarint) return Varint(field.value);
  if (kind == kBytes) {
    if (!Varint(field.bytes)) return false;
  } else if (kind == kFixed64 || kind == kFixed32) {
    field.bytes = kind == kFixed64 ? 8 : 4;
  } else {
    return false;
  }
  field.data = next_;
  next_ = field.bytes < uint64_t(end_ - next_) ? next_ + field.bytes : end_;
  return true;
}

uint64_t NumberOf(const std::string& message, uint32_t number) {
  FieldReader reader(reinterpret_cast<const uint8_t*>(message.data()), message.size());
  for (Field field; reader.Next(field);) {
    if (field.number == number) return field.value;
  }
  return 0;
}

uint64_t LengthOf(const std::string& message, uint32_t number) {
  FieldReader reader(reinterpret_cast<const uint8_t*>(message.data()), message.size());
  for (Field field; reader.Next(field);) {
    if (field.number == number) return field.bytes;
  }
  return 0;
}

std::string BytesOf(const std::string& message, uint32_t number) {
  const uint8_t* const begin = reinterpret_cast<const uint8_t*>(message.data());
  FieldReader reader(begin, message.size());
  for (Field field; reader.Next(field);) {
    if (field.number != number) continue;
    const size_t offset = size_t(field.data - begin);
    return message.substr(offset, field.bytes);
  }
  return std::string();
}

std::string EncodeReply(uint64_t value) {
  std::string message(1, char(1 << 3 | kVarint));
  AppendVarint(value, message);
  return message;
}

std::string EncodeDataReply(uint64_t value, uint64_t data_bytes) {
  std::string message = EncodeReply(value);
  message.push_back(char(2 << 3 | kBytes));
  AppendVarint(data_bytes, message);
  return message;
}

uint64_t ReplyValue(Call call, uint64_t bytes) { return call == Call::kCopyIn || call == Call::kCopyOut ? bytes : 1; }

uint64_t DataAsked(Call call, const std::string& message) {
  // The shim sends along what the host's buffer has: the number comes behind it.
  if (call == Call::kCopyOut) return LengthOf(message, 3);
  if (call == Call::kReadControl || call == Call::kReadRegister) return NumberOf(message, 3);
  return 0;
}

std::string EncodeGoneReply(Call call, const std::string& message) {
  if (call == Call::kCopyIn) return EncodeReply(LengthOf(message, 4));
  const uint64_t bytes = DataAsked(call, message);
  if (bytes == 0) return EncodeReply(ReplyValue(call, 0));
  return EncodeDataReply(ReplyValue(call, bytes), bytes) + std::string(bytes, char(kGone));
}

}  // namespace bertile
