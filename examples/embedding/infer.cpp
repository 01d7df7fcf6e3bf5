// A model with one float input in C++20: reads the input's bytes from a file, and writes those of the first output.
//
//   infer MODEL.qfx SIZE INPUT OUTPUT      SIZE: what the sizes are that the model leaves to calls, such as the batch
#include <exception>
#include <fstream>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "qfx.hpp"

static std::vector<float> contents(const std::string& path, size_t count) {
  std::vector<float> values(count);
  std::ifstream file(path, std::ios::binary);
  const auto bytes = static_cast<std::streamsize>(count * sizeof(float));
  if (!file.read(reinterpret_cast<char*>(values.data()), bytes)) throw std::runtime_error(path + " is too short");
  return values;
}

static void infer(const std::string& path, int64_t size, const std::string& from, const std::string& to) {
  const qfx::Model model(path);
  qfx::Sizes sizes = model.inputs().at(0).sizes;
  size_t count = 1;
  for (int64_t& s : sizes) {
    if (s < 0) s = size;
    count *= static_cast<size_t>(s);
  }
  const qfx::Results results = model.run({qfx::tensor(contents(from, count), sizes)});
  std::cout << "float32";
  for (const int64_t s : results.sizes(0)) std::cout << ' ' << s;
  std::cout << '\n';
  const std::span<const std::byte> bytes = std::as_bytes(results.values<float>(0));
  std::ofstream(to, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: " << argv[0] << " MODEL.qfx SIZE INPUT OUTPUT\n";
    return 2;
  }
  try {
    infer(argv[1], std::stol(argv[2]), argv[3], argv[4]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
