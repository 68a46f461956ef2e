# Files compiled for an instruction set may define nothing that the linker could take for other files
# too (weak symbols): on a processor without these instructions that would crash.
# cmake -DNM=... -DOBJECTS=a.o,b.o -P check_kernel_objects.cmake
string(REPLACE "," ";" OBJECTS "${OBJECTS}")
foreach(object IN LISTS OBJECTS)
  if(object MATCHES "kernels_[a-z0-9_]+\\.cpp")
    execute_process(COMMAND ${NM} --demangle ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "[0-9a-f]+ [VWuvw] [^\n]*" weak "${symbols}")
    if(weak)
      message(FATAL_ERROR "${object} defines weak symbols: ${weak}")
    endif()
  endif()
endforeach()
