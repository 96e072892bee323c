// A host of the emulated card, of XRT's native API alone: does what the lines of standard input say, and answers each
// with one line. Nothing here knows that the card is emulated.
#include <dirent.h>
#include <unistd.h>
#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_kernel.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

const char kKernel[] = "bertile_encoder";

struct Unit {
  xrt::kernel kernel;
  std::vector<xrt::bo> buffers;
  xrt::run run;
};

struct Host {
  std::unique_ptr<xrt::device> device;
  xrt::uuid uuid;
  std::map<std::string, Unit> units;
  std::vector<xrt::bo> spare;
};

std::string ReadFile(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw std::runtime_error("no file " + file);
  return std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
}

void Open(Host& host, std::istream& line) {
  std::string xclbin;
  line >> xclbin;
  host.device.reset(new xrt::device(0));
  host.uuid = host.device->load_xclbin(xclbin);
  std::cout << "ok" << std::endl;
}

void Close(Host& host) {
  host.units.clear();
  host.spare.clear();
  host.device.reset();
  std::cout << "ok" << std::endl;
}

// use UNIT FILE...: a buffer for every argument, with the contents of a file.
void Use(Host& host, std::istream& line) {
  std::string name;
  line >> name;
  Unit& unit = host.units[name];
  unit.kernel = xrt::kernel(*host.device, host.uuid, std::string(kKernel) + ":{" + name + "}");
  unit.buffers.clear();
  for (std::string file; line >> file;) {
    const std::string data = ReadFile(file);
    xrt::bo buffer(*host.device, data.size(), unit.kernel.group_id(int(unit.buffers.size())));
    buffer.write(data.data());
    buffer.sync(XCL_BO_SYNC_BO_TO_DEVICE);
    unit.buffers.push_back(buffer);
  }
  std::cout << "ok";
  for (const xrt::bo& buffer : unit.buffers) std::cout << " " << buffer.address();
  std::cout << std::endl;
}

// start UNIT [ARGUMENT ADDRESS]: with another address for one argument.
void Start(Host& host, std::istream& line) {
  std::string name;
  int changed;
  uint64_t address;
  line >> name;
  Unit& unit = host.units.at(name);
  unit.run = xrt::run(unit.kernel);
  for (size_t i = 0; i < unit.buffers.size(); ++i) unit.run.set_arg(int(i), unit.buffers[i]);
  if (line >> changed >> address) unit.run.set_arg(changed, address);
  unit.run.start();
  std::cout << "ok" << std::endl;
}

// wait UNIT MILLISECONDS: the state of the run (ERT_CMD_STATE_...).
void Wait(Host& host, std::istream& line) {
  std::string name;
  int milliseconds;
  line >> name >> milliseconds;
  const auto begin = std::chrono::steady_clock::now();
  const ert_cmd_state state = host.units.at(name).run.wait(std::chrono::milliseconds(milliseconds));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::cout << "ok " << int(state) << " " << seconds << std::endl;
}

// repeat UNIT COUNT: seconds that so many launches took.
void Repeat(Host& host, std::istream& line) {
  std::string name;
  int count;
  line >> name >> count;
  xrt::run& run = host.units.at(name).run;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) {
    run.start();
    run.wait();
  }
  std::cout << "ok " << std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() << std::endl;
}

// read UNIT ARGUMENT FILE: what the card has in a buffer.
void Read(Host& host, std::istream& line) {
  std::string name, file;
  int argument;
  line >> name >> argument >> file;
  xrt::bo& buffer = host.units.at(name).buffers.at(size_t(argument));
  buffer.sync(XCL_BO_SYNC_BO_FROM_DEVICE);
  std::ofstream(file, std::ios::binary).write(buffer.map<const char*>(), std::streamsize(buffer.size()));
  std::cout << "ok" << std::endl;
}

// allocate BYTES BANK: one more buffer; its address.
void Allocate(Host& host, std::istream& line) {
  size_t bytes;
  unsigned bank;
  line >> bytes >> bank;
  host.spare.emplace_back(*host.device, bytes, bank);
  std::cout << "ok " << host.spare.back().address() << std::endl;
}

// copy BYTES BANK: seconds to the card and back.
void Copy(Host& host, std::istream& line) {
  size_t bytes;
  unsigned bank;
  line >> bytes >> bank;
  xrt::bo buffer(*host.device, bytes, bank);
  char* const data = buffer.map<char*>();
  for (size_t i = 0; i < bytes; ++i) data[i] = char(i * 7 + i / 251);
  const auto begin = std::chrono::steady_clock::now();
  buffer.sync(XCL_BO_SYNC_BO_TO_DEVICE);
  const auto middle = std::chrono::steady_clock::now();
  std::memset(data, 0, bytes);
  const auto cleared = std::chrono::steady_clock::now();
  buffer.sync(XCL_BO_SYNC_BO_FROM_DEVICE);
  const auto end = std::chrono::steady_clock::now();
  size_t equal = 0;
  for (size_t i = 0; i < bytes; ++i) equal += data[i] == char(i * 7 + i / 251);
  std::cout << "ok " << equal << " " << std::chrono::duration<double>(middle - begin).count() << " "
            << std::chrono::duration<double>(end - cleared).count() << std::endl;
}

// descriptors: how many this process has open.
void Descriptors() {
  int count = 0;
  DIR* const folder = opendir("/proc/self/fd");
  while (readdir(folder)) ++count;
  closedir(folder);
  std::cout << "ok " << count << std::endl;
}

// spawn: a program that outlives this process, with what it inherits; its process number.
void Spawn() {
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    execlp("sleep", "sleep", "60", nullptr);
    _exit(1);
  }
  std::cout << "ok " << child << std::endl;
}

void Do(Host& host, const std::string& text) {
  std::istringstream line(text);
  std::string verb;
  line >> verb;
  if (verb == "open") Open(host, line);
  else if (verb == "close") Close(host);
  else if (verb == "use") Use(host, line);
  else if (verb == "start") Start(host, line);
  else if (verb == "wait") Wait(host, line);
  else if (verb == "repeat") Repeat(host, line);
  else if (verb == "read") Read(host, line);
  else if (verb == "allocate") Allocate(host, line);
  else if (verb == "copy") Copy(host, line);
  else if (verb == "descriptors") Descriptors();
  else if (verb == "spawn") Spawn();
  else throw std::runtime_error("no such verb: " + verb);
}

}  // namespace

int main() {
  Host host;
  for (std::string line; std::getline(std::cin, line);) {
    try {
      Do(host, line);
    } catch (const std::exception& error) {
      std::cout << "error " << error.what() << std::endl;
    }
  }
  return 0;
}
