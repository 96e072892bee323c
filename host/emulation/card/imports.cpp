#include "imports.hpp"

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace bertile {

namespace {

struct Search {
  const char* library;
  const Import* import;
  bool found;
};

bool IsLibrary(const char* path, const char* name) {
  char* const real = realpath(path, nullptr);
  if (!real) return false;
  const char* const slash = std::strrchr(real, '/');
  const bool is = std::strncmp(slash ? slash + 1 : real, name, std::strlen(name)) == 0;
  std::free(real);
  return is;
}

// Tables of a loaded library; the loader has made their addresses absolute.
struct Tables {
  const ElfW(Sym)* symbols = nullptr;
  const char* strings = nullptr;
  const ElfW(Rela)* relocations[2] = {nullptr, nullptr};  // of functions called through the PLT, and of all else
  size_t bytes[2] = {0, 0};
};

Tables TablesOf(const dl_phdr_info& library, const ElfW(Dyn)* entry) {
  Tables tables;
  for (; entry->d_tag != DT_NULL; ++entry) {
    const ElfW(Addr) value = entry->d_un.d_ptr;
    const ElfW(Addr) address = value < library.dlpi_addr ? library.dlpi_addr + value : value;
    if (entry->d_tag == DT_SYMTAB) tables.symbols = reinterpret_cast<const ElfW(Sym)*>(address);
    if (entry->d_tag == DT_STRTAB) tables.strings = reinterpret_cast<const char*>(address);
    if (entry->d_tag == DT_JMPREL) tables.relocations[0] = reinterpret_cast<const ElfW(Rela)*>(address);
    if (entry->d_tag == DT_PLTRELSZ) tables.bytes[0] = value;
    if (entry->d_tag == DT_RELA) tables.relocations[1] = reinterpret_cast<const ElfW(Rela)*>(address);
    if (entry->d_tag == DT_RELASZ) tables.bytes[1] = value;
  }
  return tables;
}

// The table may be read-only by now.
bool Store(void** slot, void* value) {
  const uintptr_t page_bytes = uintptr_t(sysconf(_SC_PAGESIZE));
  void* const page = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(slot) & ~(page_bytes - 1));
  if (mprotect(page, page_bytes, PROT_READ | PROT_WRITE)) return false;
  *slot = value;
  return true;
}

bool Redirect(const dl_phdr_info& library, const Tables& tables, const Import& import) {
  bool found = false;
  for (int table = 0; table < 2; ++table) {
    for (size_t i = 0; i < tables.bytes[table] / sizeof(ElfW(Rela)); ++i) {
      const ElfW(Rela)& relocation = tables.relocations[table][i];
      const unsigned type = ELF64_R_TYPE(relocation.r_info);
      if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) continue;
      const ElfW(Sym)& symbol = tables.symbols[ELF64_R_SYM(relocation.r_info)];
      if (std::strcmp(tables.strings + symbol.st_name, import.name) != 0) continue;
      found = Store(reinterpret_cast<void**>(library.dlpi_addr + relocation.r_offset), import.replacement) || found;
    }
  }
  return found;
}

int Visit(dl_phdr_info* library, size_t, void* argument) {
  Search& search = *static_cast<Search*>(argument);
  if (!library->dlpi_name || !IsLibrary(library->dlpi_name, search.library)) return 0;
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = library->dlpi_phdr[i];
    if (header.p_type != PT_DYNAMIC) continue;
    const auto* dynamic = reinterpret_cast<const ElfW(Dyn)*>(library->dlpi_addr + header.p_vaddr);
    search.found = Redirect(*library, TablesOf(*library, dynamic), *search.import);
  }
  return 1;
}

}  // namespace

bool RedirectImport(const char* library, const Import& import) {
  Search search = {library, &import, false};
  dl_iterate_phdr(Visit, &search);
  return search.found;
}

}  // namespace bertile
