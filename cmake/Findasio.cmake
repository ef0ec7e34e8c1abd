# Standalone asio (Debian ships neither a CMake nor a pkg-config file). Target: asio::asio
find_path(ASIO_INCLUDE_DIR asio.hpp)
if(ASIO_INCLUDE_DIR)
  file(STRINGS ${ASIO_INCLUDE_DIR}/asio/version.hpp asio_version_line REGEX "define ASIO_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+" asio_number "${asio_version_line}")
  math(EXPR asio_major "${asio_number} / 100000")
  math(EXPR asio_minor "${asio_number} / 100 % 1000")
  set(ASIO_VERSION ${asio_major}.${asio_minor})
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(asio REQUIRED_VARS ASIO_INCLUDE_DIR VERSION_VAR ASIO_VERSION
  REASON_FAILURE_MESSAGE "install the Debian package libasio-dev")
if(asio_FOUND AND NOT TARGET asio::asio)
  add_library(asio::asio INTERFACE IMPORTED)
  target_include_directories(asio::asio INTERFACE ${ASIO_INCLUDE_DIR})
  target_link_libraries(asio::asio INTERFACE Threads::Threads)
  # asio 1.22 decides these two by which header came first: files would disagree about operator new (ODR).
  target_compile_definitions(asio::asio INTERFACE ASIO_STANDALONE ASIO_NO_DEPRECATED ASIO_SEPARATE_COMPILATION
    ASIO_HAS_STD_ALIGNED_ALLOC=1 ASIO_HAS_TIMERFD=1)
endif()
