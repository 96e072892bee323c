#include "card_server.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "card_log.hpp"

namespace bertile {

namespace {

// In front of the data of a copy to the card: addresses and sizes.
const uint64_t kPrefixBytes = 128;
// Data that is sent in one piece with what is in front of it.
const uint64_t kJoinedBytes = 4096;
// A host polls: waiting this long for a unit leaves the processor to the kernels, and delays other requests no more.
const std::chrono::microseconds kPollWait(100);

std::string Text(const std::vector<uint8_t>& message) { return std::string(message.begin(), message.end()); }

AddressRange BankOf(const BertileCard& card, uint32_t bank) {
  const uint64_t changed = BankBytes();
  AddressRange range = {0, 0};
  for (uint32_t i = 0; i <= bank; ++i) {
    range.begin = range.end;
    range.end += changed ? changed : card.bank_bytes[i];
  }
  return range;
}

}  // namespace

bool CardServer::Receive(void* data, uint64_t bytes) {
  uint8_t* next = static_cast<uint8_t*>(data);
  while (bytes) {
    const ssize_t received = recv(socket_, next, bytes, 0);
    if (received == 0 || (received < 0 && errno != EINTR)) return false;
    if (received < 0) continue;
    next += received;
    bytes -= uint64_t(received);
  }
  return true;
}

bool CardServer::SendBytes(const void* data, uint64_t bytes) {
  const uint8_t* next = static_cast<const uint8_t*>(data);
  while (bytes) {
    const ssize_t sent = send(socket_, next, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) return false;
    if (sent < 0) continue;
    next += sent;
    bytes -= uint64_t(sent);
  }
  return true;
}

bool CardServer::Send(const std::string& message, const void* data, uint64_t data_bytes) {
  uint8_t header[kReplyHeaderBytes];
  EncodeReplyHeader(message.size() + data_bytes, header);
  std::string head(header, header + sizeof(header));
  head += message;
  const uint64_t joined = data_bytes <= kJoinedBytes ? data_bytes : 0;
  head.append(static_cast<const char*>(data), joined);
  return SendBytes(head.data(), head.size()) &&
         SendBytes(static_cast<const uint8_t*>(data) + joined, data_bytes - joined);
}

bool CardServer::Serve() {
  uint8_t header[kRequestHeaderBytes];
  while (Receive(header, sizeof(header))) {
    const RequestHeader request = DecodeRequestHeader(header);
    if (request.call == Call::kCopyIn) {
      if (!CopyIn(request.bytes)) return false;
      continue;
    }
    message_.resize(request.bytes);
    if (!Receive(message_.data(), request.bytes) || !Answer(request)) return false;
    if (request.call == Call::kClose && NumberOf(Text(message_), 3)) return true;
  }
  return false;
}

bool CardServer::Answer(const RequestHeader& request) {
  const std::string message = Text(message_);
  switch (request.call) {
    case Call::kLoad:
      return Send(EncodeReply(Load(BytesOf(message, 2))));
    case Call::kAllocate:
      return Send(EncodeReply(memory_.Allocate(NumberOf(message, 1), NumberOf(message, 2))));
    case Call::kFree:
      memory_.Free(NumberOf(message, 1));
      return Send(EncodeReply(1));
    case Call::kCopyOut:
      return CopyOut(NumberOf(message, 4), DataAsked(request.call, message));
    case Call::kWriteControl:
      WriteRegisters(NumberOf(message, 2), BytesOf(message, 4));
      return Send(EncodeReply(1));
    case Call::kWriteRegister:
      WriteRegisters(NumberOf(message, 1) + NumberOf(message, 2), BytesOf(message, 3));
      return Send(EncodeReply(1));
    case Call::kReadControl:
    case Call::kReadRegister: {
      const bool whole = request.call == Call::kReadControl;
      const uint64_t address = whole ? NumberOf(message, 2) : NumberOf(message, 1) + NumberOf(message, 2);
      const std::string data = ReadRegisters(address, DataAsked(request.call, message));
      return Send(EncodeDataReply(1, data.size()), data.data(), data.size());
    }
    default:  // nothing to do
      return Send(EncodeReply(1));
  }
}

// Data goes from the socket to the card's memory without a stop.
bool CardServer::CopyIn(uint64_t message_bytes) {
  uint8_t prefix[kPrefixBytes];
  const uint64_t received = std::min(message_bytes, kPrefixBytes);
  if (!Receive(prefix, received)) return false;
  FieldReader reader(prefix, received);
  uint64_t address = 0;
  for (Field field; reader.Next(field);) {
    if (field.number == 3) address = field.value;
    if (field.number != 4) continue;
    const uint64_t there = std::min(field.bytes, uint64_t(prefix + received - field.data));
    uint8_t* const target = memory_.Find(address, field.bytes);
    if (target) std::memcpy(target, field.data, there);
    const uint64_t missing = field.bytes - there;
    if (target ? !Receive(target + there, missing) : !Discard(missing)) return false;
    if (!target) LogCard("a copy to the card outside every buffer was dropped");
    const uint64_t behind = uint64_t(field.data - prefix) + field.bytes;
    const uint64_t rest = message_bytes - std::max(behind, received);
    return Discard(rest) && Send(EncodeReply(field.bytes));
  }
  LogCard("a copy to the card that cannot be read was dropped");
  return Discard(message_bytes - received) && Send(EncodeReply(0));
}

bool CardServer::Discard(uint64_t bytes) {
  message_.resize(bytes);
  return Receive(message_.data(), bytes);
}

bool CardServer::CopyOut(uint64_t address, uint64_t bytes) {
  const std::string head = EncodeDataReply(bytes, bytes);
  if (const uint8_t* const source = memory_.Find(address, bytes)) return Send(head, source, bytes);
  LogCard("a copy from the card outside every buffer gives all ones");
  const std::string ones(bytes, char(kGone));
  return Send(head, ones.data(), bytes);
}

bool CardServer::Load(const std::string& file) {
  for (const auto& unit : units_) {
    if (!unit->busy()) continue;
    LogCard("an xclbin was refused while a compute unit runs");
    return false;
  }
  units_.clear();
  memory_.FreeAll();
  library_.reset(new KernelLibrary(file));
  const BertileCard& card = *library_->card();
  for (uint32_t i = 0; i < card.units; ++i) {
    const AddressRange bank = BankOf(card, card.unit[i].bank);
    units_.emplace_back(new ComputeUnit(*library_, card.unit[i], bank, memory_, faults_, completion_));
  }
  return true;
}

ComputeUnit* CardServer::UnitAt(uint64_t address) {
  for (const auto& unit : units_) {
    if (unit->Has(address)) return unit.get();
  }
  return nullptr;
}

void CardServer::WriteRegisters(uint64_t address, const std::string& data) {
  ComputeUnit* const unit = UnitAt(address);
  if (unit) unit->Write(address, reinterpret_cast<const uint8_t*>(data.data()), data.size());
}

void CardServer::AwaitUnit(const ComputeUnit& unit) {
  std::unique_lock<std::mutex> lock(completion_.mutex);
  if (unit.busy()) completion_.changed.wait_for(lock, kPollWait);
}

std::string CardServer::ReadRegisters(uint64_t address, uint64_t bytes) {
  std::string data(bytes, 0);
  ComputeUnit* const unit = UnitAt(address);
  if (!unit) return data;
  AwaitUnit(*unit);
  for (uint64_t i = 0; i + 4 <= bytes; i += 4) {
    const uint32_t value = unit->Read(address + i);
    std::memcpy(&data[i], &value, sizeof(value));
  }
  return data;
}

}  // namespace bertile
