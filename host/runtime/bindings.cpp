// The Python module bertile.runtime._xrt. Calls that may wait release the interpreter's lock.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "card.hpp"
#include "errors.hpp"

namespace py = pybind11;
using bertile::Card;
using bertile::EncoderArgument;
using bertile::Slot;
using bertile::Unit;

namespace {

// The mapped memory itself, alive as long as its slot.
py::array_t<uint8_t> View(const py::object& slot, uint8_t* data, size_t bytes) {
  return py::array_t<uint8_t>({bytes}, {size_t(1)}, data, slot);
}

void CheckRoom(size_t bytes, size_t room) {
  if (bytes > room) throw bertile::CardError("a launch larger than the buffers made for it");
}

void Load(Unit& unit, EncoderArgument argument, const py::array_t<uint8_t, py::array::c_style>& image) {
  const uint8_t* data = image.data();
  const size_t bytes = size_t(image.size());
  py::gil_scoped_release release;
  unit.Load(argument, data, bytes);
}

void BindSlot(py::module_& module) {
  py::class_<Slot>(module, "Slot")
      .def(py::init<std::shared_ptr<Unit>, size_t, size_t>(), py::call_guard<py::gil_scoped_release>())
      .def_property_readonly(
          "table", [](py::object self) { return View(self, self.cast<Slot&>().table(), Slot::kTableBytes); })
      .def_property_readonly(
          "status", [](py::object self) { return View(self, self.cast<Slot&>().status(), Slot::kStatusBytes); })
      .def_property_readonly("input",
                             [](py::object self) {
                               Slot& slot = self.cast<Slot&>();
                               return View(self, slot.input(), slot.input_bytes());
                             })
      .def_property_readonly("output",
                             [](py::object self) {
                               Slot& slot = self.cast<Slot&>();
                               return View(self, slot.output(), slot.output_bytes());
                             })
      .def(
          "send",
          [](Slot& slot, size_t bytes) {
            CheckRoom(bytes, slot.input_bytes());
            slot.Send(bytes);
          },
          py::call_guard<py::gil_scoped_release>())
      .def("close", &Slot::Close, py::call_guard<py::gil_scoped_release>())
      .def("start", &Slot::Start, py::call_guard<py::gil_scoped_release>())
      .def("wait", &Slot::Wait, py::call_guard<py::gil_scoped_release>())
      .def(
          "fetch",
          [](Slot& slot, size_t bytes) {
            CheckRoom(bytes, slot.output_bytes());
            slot.Fetch(bytes);
          },
          py::call_guard<py::gil_scoped_release>())
      .def("clear_status", &Slot::ClearStatus, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("run_seconds", &Slot::run_seconds);
}

}  // namespace

PYBIND11_MODULE(_xrt, module) {
  py::register_exception<bertile::CardError>(module, "CardError", PyExc_RuntimeError);
  // Its destructor never runs, not even at the end of the process.
  module.def("leak", [](const py::object& object) { object.inc_ref(); });
  module.def("count_cards", &bertile::CountCards);
  py::enum_<EncoderArgument>(module, "EncoderArgument")
      .value("program", bertile::kProgram)
      .value("weights", bertile::kWeights)
      .value("parameters", bertile::kParameters);
  py::class_<Card, std::shared_ptr<Card>>(module, "Card")
      .def(py::init<unsigned, const std::string&>(), py::call_guard<py::gil_scoped_release>())
      .def("close", &Card::Close, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("name", &Card::name)
      .def_property_readonly("address", &Card::address)
      .def("instances", &Card::Instances)
      .def("arguments", &Card::Arguments);
  py::class_<Unit, std::shared_ptr<Unit>>(module, "Unit")
      .def(py::init<std::shared_ptr<Card>, const std::string&, const std::string&>(),
           py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("instance", &Unit::instance)
      .def("close", &Unit::Close, py::call_guard<py::gil_scoped_release>())
      .def("load", &Load);
  BindSlot(module);
}
