# No instruction beyond the baseline of x86-64 outside the kernels of wider levels, and no inline
# function in these that the linker could take for everybody's: either would crash older machines.
#
#   cmake -DNM=nm -DOBJDUMP=objdump "-DWIDE=a.o;b.o" "-DFOR_ALL=c.o;d.o" -P check_wide_instructions.cmake

foreach(object IN LISTS WIDE)
  execute_process(COMMAND ${NM} ${object} OUTPUT_VARIABLE text RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${NM} ${object} failed: ${result}")
  endif()
  if(text MATCHES " [WVu] ([^\n]*)")
    message(SEND_ERROR "${object} shares ${CMAKE_MATCH_1} with files for every machine")
  endif()
endforeach()

# Registers of 256 and 512 bits, and instructions with three operands on narrower ones.
function(find_wide output)
  execute_process(COMMAND ${OBJDUMP} -d --no-show-raw-insn ${ARGN}
    COMMAND grep -m 1 -E
      "%[yz]mm|\tv[a-z]|\t(pdep|pext|bzhi|andn|blsr|blsi|blsmsk|lzcnt|popcnt) "
    OUTPUT_VARIABLE text)
  set(${output} "${text}" PARENT_SCOPE)
endfunction()

foreach(object IN LISTS FOR_ALL)
  find_wide(found ${object})
  if(found)
    message(SEND_ERROR "${object} is for every machine, but has: ${found}")
  endif()
endforeach()
if(NOT FOR_ALL)
  message(FATAL_ERROR "no object files for every machine were named")
endif()
find_wide(found ${WIDE})
if(NOT found)
  message(FATAL_ERROR "${OBJDUMP} shows no wide instruction in the kernels that are built for them")
endif()
