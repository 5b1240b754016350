set(paraexport_sources
    src/c_api.cpp
    src/engine.cpp
    src/error.cpp
    src/golden.cpp
    src/handles.cpp
    src/scores.cpp
    src/bundle/bundle.cpp
    src/bundle/contradictions.cpp
    src/bundle/external_data.cpp
    src/bundle/fewer_branches.cpp
    src/bundle/files.cpp
    src/bundle/folder_portable.cpp
    src/bundle/folder_posix.cpp
    src/bundle/folder_search.cpp
    src/bundle/json.cpp
    src/bundle/manifest.cpp
    src/bundle/manifest_type.cpp
    src/bundle/memory.cpp
    src/bundle/safetensors.cpp
    src/bundle/schema.cpp
    src/bundle/sha256.cpp
    src/bundle/sha256_x86.cpp
    src/image/prepare.cpp
    src/image/resize.cpp
    src/runtimes/known.cpp
    src/runtimes/library.cpp
    src/runtimes/onnxruntime_probe.cpp
    src/runtimes/session.cpp
    src/runtimes/shared_object.cpp)

find_package(Threads REQUIRED)

# Everything that all of our targets are compiled with.
add_library(paraexport_settings INTERFACE)
target_compile_features(paraexport_settings INTERFACE cxx_std_17)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  # Products and sums must round one after the other, or pixels differ from Python's.
  target_compile_options(paraexport_settings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -ffp-contract=off)
  if(PARAEXPORT_WERROR)
    target_compile_options(paraexport_settings INTERFACE -Werror)
  endif()
  if(PARAEXPORT_SANITIZE)
    target_compile_options(paraexport_settings INTERFACE -fsanitize=${PARAEXPORT_SANITIZE} -fno-omit-frame-pointer
                                                         -fno-sanitize-recover=all)
    target_link_options(paraexport_settings INTERFACE -fsanitize=${PARAEXPORT_SANITIZE})
  endif()
endif()

# The code as objects: the library and the unit tests share them.
add_library(paraexport_objects OBJECT ${paraexport_sources})
target_include_directories(paraexport_objects PUBLIC src include)
target_include_directories(paraexport_objects SYSTEM PRIVATE ${PARAEXPORT_JSON_INCLUDE})
target_compile_definitions(paraexport_objects PRIVATE PARAEXPORT_BUILDING
                                                      PARAEXPORT_VERSION="${paraexport_VERSION}")
if(PARAEXPORT_PORTABLE_FILES)
  target_compile_definitions(paraexport_objects PRIVATE PARAEXPORT_PORTABLE_FILES)
endif()
set_target_properties(paraexport_objects PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
                                                    VISIBILITY_INLINES_HIDDEN ON)
target_link_libraries(paraexport_objects PUBLIC paraexport_settings Threads::Threads ${CMAKE_DL_LIBS})

if(PARAEXPORT_ONNXRUNTIME_INCLUDE)
  target_sources(paraexport_objects PRIVATE src/runtimes/onnxruntime.cpp src/runtimes/onnxruntime_api.cpp)
  target_include_directories(paraexport_objects SYSTEM PRIVATE ${PARAEXPORT_ONNXRUNTIME_INCLUDE})
  target_compile_definitions(paraexport_objects PRIVATE PARAEXPORT_HAS_ONNXRUNTIME)
endif()
if(PARAEXPORT_OPENVINO_INCLUDE)
  target_sources(paraexport_objects PRIVATE src/runtimes/openvino.cpp src/runtimes/openvino_api.cpp
                                            src/runtimes/openvino_probe.cpp)
  target_include_directories(paraexport_objects SYSTEM PRIVATE ${PARAEXPORT_OPENVINO_INCLUDE})
  target_compile_definitions(paraexport_objects PRIVATE PARAEXPORT_HAS_OPENVINO)
endif()

# One translation unit for each generation of NVIDIA's headers.
if(PARAEXPORT_TENSORRT_INCLUDE OR PARAEXPORT_TENSORRT_RTX_INCLUDE)
  target_sources(paraexport_objects PRIVATE src/runtimes/tensorrt/cuda.cpp src/runtimes/tensorrt/engine_info.cpp)
endif()
foreach(flavour TENSORRT TENSORRT_RTX)
  if(PARAEXPORT_${flavour}_INCLUDE)
    string(TOLOWER ${flavour} name)
    configure_file(src/runtimes/tensorrt/flavour.cpp ${PROJECT_BINARY_DIR}/${name}.cpp COPYONLY)
    add_library(paraexport_${name} OBJECT ${PROJECT_BINARY_DIR}/${name}.cpp)
    target_include_directories(paraexport_${name} PRIVATE src include src/runtimes/tensorrt/cuda_types)
    target_include_directories(paraexport_${name} SYSTEM PRIVATE ${PARAEXPORT_${flavour}_INCLUDE})
    set_target_properties(paraexport_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
                                                        VISIBILITY_INLINES_HIDDEN ON)
    target_link_libraries(paraexport_${name} PRIVATE paraexport_settings)
    target_compile_definitions(paraexport_objects PRIVATE PARAEXPORT_HAS_${flavour})
    list(APPEND paraexport_flavours $<TARGET_OBJECTS:paraexport_${name}>)
  endif()
endforeach()
if(TARGET paraexport_tensorrt_rtx)
  target_compile_definitions(paraexport_tensorrt_rtx PRIVATE PARAEXPORT_TENSORRT_IS_RTX)
endif()
# Everything that links the objects needs these too.
target_sources(paraexport_objects INTERFACE ${paraexport_flavours})

add_library(paraexport ${paraexport_type} $<TARGET_OBJECTS:paraexport_objects> ${paraexport_flavours})
add_library(paraexport::paraexport ALIAS paraexport)
target_include_directories(paraexport PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(paraexport PRIVATE Threads::Threads ${CMAKE_DL_LIBS} $<BUILD_INTERFACE:paraexport_settings>)
set_target_properties(paraexport PROPERTIES VERSION ${paraexport_VERSION} SOVERSION 0 CXX_VISIBILITY_PRESET hidden)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang" AND NOT APPLE AND NOT WIN32 AND NOT PARAEXPORT_SANITIZE)
  target_link_options(paraexport PRIVATE -Wl,--no-undefined -Wl,--gc-sections
                                         -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/exports.map)
  target_compile_options(paraexport_objects PRIVATE -ffunction-sections -fdata-sections)
  # Only pixels and hashes take time. The rest is small.
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(paraexport_objects PRIVATE -Os)
    set_source_files_properties(src/image/prepare.cpp src/image/resize.cpp src/bundle/sha256.cpp src/bundle/sha256_x86.cpp
                                PROPERTIES COMPILE_OPTIONS -O3)
  endif()
endif()
