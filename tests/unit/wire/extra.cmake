target_link_libraries(test_wire PRIVATE millrace_wire_cases)
add_dependencies(test_wire msgc)  # msgc_test runs it
