#include "runtimes/openvino_probe.hpp"

#include <cstring>

#include "runtimes/known.hpp"

namespace paraexport::core {

// The same graph as `saturates` in `paraexport/targets/openvino.py`.
const char OPENVINO_PRODUCT[] = R"(<?xml version="1.0"?>
<net name="product" version="11">
<layers>
<layer id="0" name="images" type="Parameter" version="opset1"><data shape="?,64" element_type="f32"/>
<output><port id="0" precision="FP32"><dim>-1</dim><dim>64</dim></port></output></layer>
<layer id="1" name="low" type="Const" version="opset1"><data element_type="f32" shape="" offset="0" size="4"/>
<output><port id="0" precision="FP32"/></output></layer>
<layer id="2" name="high" type="Const" version="opset1"><data element_type="f32" shape="" offset="4" size="4"/>
<output><port id="0" precision="FP32"/></output></layer>
<layer id="3" name="quantised" type="FakeQuantize" version="opset1"><data levels="256" auto_broadcast="numpy"/>
<input><port id="0" precision="FP32"><dim>-1</dim><dim>64</dim></port><port id="1" precision="FP32"/>
<port id="2" precision="FP32"/><port id="3" precision="FP32"/><port id="4" precision="FP32"/></input>
<output><port id="5" precision="FP32"><dim>-1</dim><dim>64</dim></port></output></layer>
<layer id="4" name="weight" type="Const" version="opset1"><data element_type="i8" shape="64, 32" offset="12" size="2048"/>
<output><port id="0" precision="I8"><dim>64</dim><dim>32</dim></port></output></layer>
<layer id="5" name="converted" type="Convert" version="opset1"><data destination_type="f32"/>
<input><port id="0" precision="I8"><dim>64</dim><dim>32</dim></port></input>
<output><port id="1" precision="FP32"><dim>64</dim><dim>32</dim></port></output></layer>
<layer id="6" name="scale" type="Const" version="opset1"><data element_type="f32" shape="" offset="8" size="4"/>
<output><port id="0" precision="FP32"/></output></layer>
<layer id="7" name="scaled" type="Multiply" version="opset1"><data auto_broadcast="numpy"/>
<input><port id="0" precision="FP32"><dim>64</dim><dim>32</dim></port><port id="1" precision="FP32"/></input>
<output><port id="2" precision="FP32"><dim>64</dim><dim>32</dim></port></output></layer>
<layer id="8" name="product" type="MatMul" version="opset1"><data transpose_a="false" transpose_b="false"/>
<input><port id="0" precision="FP32"><dim>-1</dim><dim>64</dim></port>
<port id="1" precision="FP32"><dim>64</dim><dim>32</dim></port></input>
<output><port id="2" precision="FP32"><dim>-1</dim><dim>32</dim></port></output></layer>
<layer id="9" name="result" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>-1</dim><dim>32</dim></port></input></layer>
</layers>
<edges>
<edge from-layer="0" from-port="0" to-layer="3" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="3" to-port="1"/>
<edge from-layer="2" from-port="0" to-layer="3" to-port="2"/>
<edge from-layer="1" from-port="0" to-layer="3" to-port="3"/>
<edge from-layer="2" from-port="0" to-layer="3" to-port="4"/>
<edge from-layer="3" from-port="5" to-layer="8" to-port="0"/>
<edge from-layer="4" from-port="0" to-layer="5" to-port="0"/>
<edge from-layer="5" from-port="1" to-layer="7" to-port="0"/>
<edge from-layer="6" from-port="0" to-layer="7" to-port="1"/>
<edge from-layer="7" from-port="2" to-layer="8" to-port="1"/>
<edge from-layer="8" from-port="2" to-layer="9" to-port="0"/>
</edges>
</net>
)";

std::vector<char> openvino_product_weights() {
    constexpr float edges_and_scale[] = {0, 255, 1};
    const std::vector<std::int8_t> weight = SaturationProbe::weight();
    std::vector<char> bytes(sizeof edges_and_scale + weight.size());
    std::memcpy(bytes.data(), edges_and_scale, sizeof edges_and_scale);
    std::memcpy(bytes.data() + sizeof edges_and_scale, weight.data(), weight.size());
    return bytes;
}

}  // namespace paraexport::core
