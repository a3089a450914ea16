# Makes OUTPUT, C++ that defines the std::string_view NAMESPACE::NAME (declared in HEADER) with the bytes of INPUT:
#   cmake -DINPUT=... -DOUTPUT=... -DHEADER=... -DNAMESPACE=... -DNAME=... -P embed.cmake
# INPUT is to stand inside a <script> or <style>, so it must not hold what would end that.
file(READ "${INPUT}" text)
string(TOLOWER "${text}" lower)
foreach(end "</script" "</style" "<!--")
  string(FIND "${lower}" "${end}" at)
  if(NOT at EQUAL -1)
    message(FATAL_ERROR "${INPUT} has '${end}' in it, and cannot be part of a page")
  endif()
endforeach()
file(READ "${INPUT}" bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR count "${digits} / 2")
string(REGEX REPLACE "(..)" "\\\\x\\1" bytes "${bytes}")
# In lines, since editors and debuggers choke on one of 800,000 columns.
string(REGEX REPLACE "(................................................................................)" "\\1\"\n    \"" bytes
                     "${bytes}")
file(WRITE "${OUTPUT}" "// From ${INPUT}.
#include \"${HEADER}\"

namespace ${NAMESPACE} {

const std::string_view ${NAME}(
    \"${bytes}\",
    ${count});

}  // namespace ${NAMESPACE}
")
