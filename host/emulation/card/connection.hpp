// The shim's end of a socket to a card: follows requests, to answer them when the card is gone.
#pragma once

#include <algorithm>
#include <cstring>

#include "wire.hpp"

namespace bertile {

class Connection {
 public:
  bool gone() const { return gone_; }
  void Lose() { gone_ = true; }
  // True for the first who asks after the loss.
  bool TellOnce() {
    const bool first = gone_ && !told_;
    told_ = told_ || gone_;
    return first;
  }

  // The shim has sent so much of a request, or has received so much of its reply.
  void Sent(const void* data, size_t bytes) {
    const uint8_t* next = static_cast<const uint8_t*>(data);
    while (bytes) {
      if (sent_ == request_bytes_) Begin();
      const size_t part = std::min(bytes, request_bytes_ - sent_);
      Keep(next, part);
      sent_ += part;
      next += part;
      bytes -= part;
      if (sent_ == kRequestHeaderBytes) {
        request_bytes_ += DecodeRequestHeader(reinterpret_cast<const uint8_t*>(kept_.data())).bytes;
      }
    }
  }
  void Received(size_t bytes) { received_ += bytes; }

  // What a slot without a card says behind what has been received of the reply.
  size_t AnswerGone(uint8_t* data, size_t bytes) {
    if (reply_.empty()) MakeReply();
    // A shim that reads more than it has asked for gets ones, too.
    std::memset(data, kGone, bytes);
    if (received_ < reply_.size()) {
      bytes = std::min(bytes, reply_.size() - received_);
      std::memcpy(data, reply_.data() + received_, bytes);
    }
    received_ += bytes;
    return bytes;
  }

 private:
  // Of a request: its header, and what says how much data it sends or wants.
  static const size_t kKeptBytes = kRequestHeaderBytes + 128;

  void Begin() {
    sent_ = received_ = 0;
    request_bytes_ = kRequestHeaderBytes;
    kept_.clear();
    reply_.clear();
  }

  void Keep(const uint8_t* data, size_t bytes) {
    if (kept_.size() < kKeptBytes) {
      kept_.append(reinterpret_cast<const char*>(data), std::min(bytes, kKeptBytes - kept_.size()));
    }
  }

  void MakeReply() {
    const std::string message = kept_.size() < kRequestHeaderBytes ? "" : kept_.substr(kRequestHeaderBytes);
    const Call call = message.empty() ? Call::kClose : DecodeRequestHeader(Header()).call;
    const std::string body = EncodeGoneReply(call, message);
    uint8_t header[kReplyHeaderBytes];
    EncodeReplyHeader(body.size(), header);
    reply_.assign(reinterpret_cast<const char*>(header), sizeof(header));
    reply_ += body;
  }

  const uint8_t* Header() const { return reinterpret_cast<const uint8_t*>(kept_.data()); }

  bool gone_ = false;
  bool told_ = false;
  size_t request_bytes_ = 0;  // the header's, until it is there
  size_t sent_ = 0;
  size_t received_ = 0;
  std::string kept_;
  std::string reply_;
};

}  // namespace bertile
