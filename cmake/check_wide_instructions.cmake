# No instruction beyond the baseline of x86-64 outside kernels_avx2 and kernels_avx512, and no inline
# function in these that the linker could take for everybody's: either would crash older machines.
#
#   cmake -DNM=nm -DOBJDUMP=objdump -DLIBRARY=libpnag_core.a -P check_wide_instructions.cmake

function(run output)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE text RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN} failed: ${result}")
  endif()
  # A list of lines, of which semicolons and brackets would make something else.
  string(REGEX REPLACE "[][;]" "" text "${text}")
  string(REPLACE "\n" ";" text "${text}")
  set(${output} "${text}" PARENT_SCOPE)
endfunction()

set(wide FALSE)
set(n_wide 0)
run(lines ${NM} ${LIBRARY})
foreach(line IN LISTS lines)
  if(line MATCHES "^(.*\\.o):$")
    set(member ${CMAKE_MATCH_1})
    set(wide FALSE)
    if(member MATCHES "kernels_avx")
      set(wide TRUE)
      math(EXPR n_wide "${n_wide} + 1")
    endif()
  elseif(wide AND line MATCHES " [WVu] (.*)$")
    message(SEND_ERROR "${member} shares ${CMAKE_MATCH_1} with files for every machine")
  endif()
endforeach()
if(n_wide EQUAL 0)
  message(FATAL_ERROR "no kernels with wide instructions in ${LIBRARY}")
endif()

# Registers of 256 and 512 bits, and instructions with three operands on narrower ones.
execute_process(COMMAND ${OBJDUMP} -d --no-show-raw-insn ${LIBRARY}
  COMMAND grep -E "file format|%[yz]mm|\tv[a-z]|\t(pdep|pext|bzhi|andn|blsr|blsi|blsmsk|lzcnt|popcnt) "
  OUTPUT_VARIABLE text)
string(REPLACE "\n" ";" lines "${text}")
set(member "")
set(seen FALSE)
foreach(line IN LISTS lines)
  if(line MATCHES "^([^ ]*\\.o): ")
    set(member ${CMAKE_MATCH_1})
  elseif(member MATCHES "kernels_avx")
    set(seen TRUE)
  elseif(NOT line STREQUAL "")
    message(SEND_ERROR "${member} is for every machine, but has: ${line}")
    break()
  endif()
endforeach()
if(NOT seen)
  message(FATAL_ERROR "${OBJDUMP} shows no wide instruction in the kernels that are built for them")
endif()
