// The compiled part of asio (ASIO_SEPARATE_COMPILATION), once for the program.
#include <asio/impl/src.hpp>
