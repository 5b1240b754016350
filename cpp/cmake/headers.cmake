# Finds the headers that the library is compiled with. `fetch_headers.sh` puts them into `headers/` on Debian and Ubuntu;
# elsewhere, what is installed is taken.
set(PARAEXPORT_HEADERS ${PROJECT_SOURCE_DIR}/headers/include)

find_path(PARAEXPORT_JSON_INCLUDE nlohmann/json.hpp HINTS ${PARAEXPORT_HEADERS})
# Its licence must go with the library, which has its code. The file comes from the same package.
find_file(PARAEXPORT_JSON_LICENCE NAMES nlohmann-json3-dev/copyright nlohmann-json/LICENSE.MIT nlohmann_json/LICENSE.MIT
          HINTS ${PROJECT_SOURCE_DIR}/headers/licences PATHS /usr/share/doc /usr/share/licenses)
find_path(PARAEXPORT_ONNXRUNTIME_INCLUDE onnxruntime_c_api.h HINTS ${PARAEXPORT_HEADERS}
          PATH_SUFFIXES onnxruntime onnxruntime/core/session)
find_path(PARAEXPORT_DOCTEST_INCLUDE doctest/doctest.h HINTS ${PARAEXPORT_HEADERS})

# The Python package of OpenVINO has its headers.
find_path(PARAEXPORT_OPENVINO_INCLUDE openvino/c/openvino.h HINTS $ENV{OpenVINO_DIR}/../include)
if(NOT PARAEXPORT_OPENVINO_INCLUDE)
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_FOUND)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c
              "import importlib.util as u; print(u.find_spec('openvino').submodule_search_locations[0])"
      OUTPUT_VARIABLE openvino_folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(openvino_folder)
      find_path(PARAEXPORT_OPENVINO_INCLUDE openvino/c/openvino.h HINTS "${openvino_folder}/include")
    endif()
  endif()
endif()

if(NOT PARAEXPORT_JSON_INCLUDE)
  message(FATAL_ERROR "nlohmann/json.hpp is missing: run cmake/fetch_headers.sh headers (Debian, Ubuntu), "
                      "or install nlohmann-json, or set PARAEXPORT_JSON_INCLUDE to its folder")
endif()
foreach(runtime ONNXRUNTIME OPENVINO)
  if(NOT PARAEXPORT_${runtime}_INCLUDE)
    message(NOTICE "built without ${runtime}: its headers are missing; set PARAEXPORT_${runtime}_INCLUDE to their "
                   "folder (docs/cpp.md, \"Build\")")
  endif()
endforeach()
