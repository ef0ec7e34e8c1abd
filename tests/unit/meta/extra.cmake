target_link_libraries(test_meta PRIVATE millrace_proto)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # The test counts allocations by replacing operator new with malloc; g++ inlines one side of the pair and frets.
  target_compile_options(test_meta PRIVATE -Wno-mismatched-new-delete)
endif()
